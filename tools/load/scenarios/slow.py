"""Slow calls: large bodies, slow senders and readers, long streams, and clients that leave half way."""

from __future__ import annotations

import contextlib

from tools.load import expected_metrics, payloads
from tools.load.call import Call, Pace
from tools.load.client import NoAnswerError, OffError
from tools.load.scenarios.compression import Compression
from tools.load.scenarios.models import CHAT, called
from tools.load.scenarios.scenario import Part, Story
from tools.load.scenarios.vault import Vault

_LARGE_BYTES = 3 * 1024 * 1024
_TOKENS = 400


class Slow(Part):
    """What takes a while, in those parts of the service that are there."""

    name = "slow"
    weight = 0.5

    async def begin(self) -> None:
        self._stories: list[Story] = []
        self._vault: Vault | None = None
        with contextlib.suppress(OffError):
            self._compression = Compression(self.setting)
            await self._compression.begin()
            self._stories += [self.slow_sender, self.slow_reader, self.leaves_while_sending]
        if self.setting.model is not None:
            self._stories += [self.long_stream, self.leaves_a_stream]
        with contextlib.suppress(OffError):
            vault = Vault(self.setting)
            await vault.begin()
            self._vault = vault
            self._stories.append(self.large_object)
        if not self._stories:
            raise OffError("none of the parts that can be slow is there")

    def stories(self) -> list[Story]:
        return self._stories

    async def slow_sender(self) -> None:
        """Send a large document slowly."""
        document = payloads.document(self.choice, _LARGE_BYTES)
        await self._compression.there_and_back(document, pace=Pace(sending=self.setting.slow))

    async def slow_reader(self) -> None:
        """Read a large document slowly."""
        document = payloads.document(self.choice, _LARGE_BYTES)
        await self._compression.there_and_back(document, back="?stream=1", pace=Pace(reading=self.setting.slow))

    async def leaves_while_sending(self) -> None:
        """Leave in the middle of the body."""
        document = payloads.document(self.choice, 100_000)
        call = Call("POST", "/v1/compress", body=document, moves=expected_metrics.compression(len(document)), pace=Pace(leaves="sending"))
        with contextlib.suppress(NoAnswerError):
            await self.client.send(call)

    async def long_stream(self) -> None:
        """Let a model talk for long, and read slowly."""
        await self.client.send(called(self.setting, CHAT, _TOKENS, Pace(reading=self.setting.slow), stream=True))

    async def leaves_a_stream(self) -> None:
        """Leave at the first tokens."""
        with contextlib.suppress(NoAnswerError):
            await self.client.send(called(self.setting, CHAT, _TOKENS, Pace(leaves="reading"), stream=True))

    async def large_object(self) -> None:
        """Store a large object slowly, and retrieve it as it is verified."""
        assert self._vault is not None
        name = await self._vault.store(
            payloads.document(self.choice, 2 * _LARGE_BYTES), "?stream=1", Pace(self.setting.slow, self.setting.slow)
        )
        if name is not None:
            await self._vault.delete(name)

    async def end(self) -> None:
        if self._vault is not None:
            await self._vault.end()
