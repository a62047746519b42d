"""ΣLANG: documents of many sizes, there and back."""

from __future__ import annotations

from tools.load import expected_metrics, payloads
from tools.load.call import OK, Call, Pace
from tools.load.scenarios.scenario import Part, Story, among

_SIZES = (0, 300, 2_000, 20_000, 60_000, 300_000)


class Compression(Part):
    """`/v1/compress` and `/v1/decompress`."""

    name = "compression"
    weight = 5.0

    async def begin(self) -> None:
        document = b"is it there?"
        await self.client.need(Call("POST", "/v1/compress", body=document, moves=expected_metrics.compression(len(document))))

    def stories(self) -> list[Story]:
        return [self.round_trip, self.round_trip, self.small_level, self.refusals]

    async def round_trip(self) -> None:
        """Compress a document, and restore it."""
        document = payloads.document(self.choice, self.choice.choice(_SIZES))
        await self.there_and_back(document, f"?level={self.choice.choice((1, 3, 3, 9))}")

    async def small_level(self) -> None:
        """Compress as small as can be, which takes the service longer."""
        await self.there_and_back(payloads.document(self.choice, 100_000), "?level=19")

    async def there_and_back(self, document: bytes, query: str = "", back: str = "", pace: Pace | None = None) -> None:
        """Compress, restore, and compare."""
        pace = pace or Pace()
        moves = expected_metrics.compression(len(document))
        made = await self.client.send(Call("POST", f"/v1/compress{query}", body=document, moves=moves, pace=pace))
        if made.status not in OK:
            return
        call = Call("POST", f"/v1/decompress{back}", body=made.body, moves=expected_metrics.decompression, pace=Pace(reading=pace.reading))
        restored = await self.client.send(call)
        if restored.status in OK and restored.body != document:
            self.client.faults["a document did not come back from /v1/compress and /v1/decompress as it was"] += 1

    async def refusals(self) -> None:
        """Send what is refused: a level that is none, what is no frame, a dictionary that is none."""
        refused, document = among(422), b"not compressed at all"
        moves = expected_metrics.compression(len(document))
        await self.client.send(Call("POST", "/v1/compress?level=99", body=document, expects=refused, moves=moves))
        await self.client.send(Call("POST", "/v1/decompress", body=document, expects=refused, moves=expected_metrics.decompression))
        await self.client.send(Call("POST", "/v1/compress?dictionary=none", body=document, expects=among(404), moves=moves))
