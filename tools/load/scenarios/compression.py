"""ΣLANG: documents of many sizes, compressed and restored."""

from __future__ import annotations

from tools.load import expected_metrics, payloads
from tools.load.request import OK, Pace, Request
from tools.load.scenarios.scenario import Scenario, Step, among

_SIZES = (0, 300, 2_000, 20_000, 60_000, 300_000)


class CompressionScenario(Scenario):
    """`/v1/compress` and `/v1/decompress`."""

    name = "compression"
    weight = 5.0

    async def set_up(self) -> None:
        document = b"is it available?"
        await self.client.need(Request("POST", "/v1/compress", body=document, moves=expected_metrics.compression(len(document))))

    def steps(self) -> list[Step]:
        return [self.round_trip, self.round_trip, self.small_level, self.refusals]

    async def round_trip(self) -> None:
        """Compress a document, and restore it."""
        document = payloads.document(self.choice, self.choice.choice(_SIZES))
        await self.round_trip_of(document, f"?level={self.choice.choice((1, 3, 3, 9))}")

    async def small_level(self) -> None:
        """Compress with the highest level, which takes the service longer."""
        await self.round_trip_of(payloads.document(self.choice, 100_000), "?level=19")

    async def round_trip_of(self, document: bytes, query: str = "", back: str = "", pace: Pace | None = None) -> None:
        """Compress, restore, and compare."""
        pace = pace or Pace()
        moves = expected_metrics.compression(len(document))
        made = await self.client.send(Request("POST", f"/v1/compress{query}", body=document, moves=moves, pace=pace))
        if made.status not in OK:
            return
        request = Request(
            "POST", f"/v1/decompress{back}", body=made.body, moves=expected_metrics.decompression, pace=Pace(reading=pace.reading)
        )
        restored = await self.client.send(request)
        if restored.status in OK and restored.body != document:
            self.client.faults["a document did not come back from /v1/compress and /v1/decompress as it was"] += 1

    async def refusals(self) -> None:
        """Send an invalid level, a document that is not compressed, and an unknown dictionary."""
        refused, document = among(422), b"not compressed at all"
        moves = expected_metrics.compression(len(document))
        await self.client.send(Request("POST", "/v1/compress?level=99", body=document, expects=refused, moves=moves))
        await self.client.send(Request("POST", "/v1/decompress", body=document, expects=refused, moves=expected_metrics.decompression))
        await self.client.send(Request("POST", "/v1/compress?dictionary=none", body=document, expects=among(404), moves=moves))
