"""Slow requests: large bodies, slow senders and readers, long streams, and clients that leave early."""

from __future__ import annotations

import contextlib

from tools.load import expected_metrics, payloads
from tools.load.client import NoAnswerError, UnavailableError
from tools.load.request import Pace, Request
from tools.load.scenarios.compression import CompressionScenario
from tools.load.scenarios.models import CHAT, model_request
from tools.load.scenarios.scenario import Scenario, Step
from tools.load.scenarios.vault import VaultScenario

_LARGE_BYTES = 3 * 1024 * 1024
_TOKENS = 400


class SlowScenario(Scenario):
    """Slow requests to the available parts of the service."""

    name = "slow"
    weight = 0.5

    async def set_up(self) -> None:
        self._steps: list[Step] = []
        self._vault: VaultScenario | None = None
        with contextlib.suppress(UnavailableError):
            self._compression = CompressionScenario(self.context)
            await self._compression.set_up()
            self._steps += [self.slow_sender, self.slow_reader, self.leaves_while_sending]
        if self.context.model is not None:
            self._steps += [self.long_stream, self.leaves_a_stream]
        with contextlib.suppress(UnavailableError):
            vault = VaultScenario(self.context)
            await vault.set_up()
            self._vault = vault
            self._steps.append(self.large_object)
        if not self._steps:
            raise UnavailableError("no part of the service that can be slow is available")

    def steps(self) -> list[Step]:
        return self._steps

    async def slow_sender(self) -> None:
        """Send a large document slowly."""
        document = payloads.document(self.choice, _LARGE_BYTES)
        await self._compression.round_trip_of(document, pace=Pace(sending=self.context.slow))

    async def slow_reader(self) -> None:
        """Read a large document slowly."""
        document = payloads.document(self.choice, _LARGE_BYTES)
        await self._compression.round_trip_of(document, back="?stream=1", pace=Pace(reading=self.context.slow))

    async def leaves_while_sending(self) -> None:
        """Leave in the middle of the body."""
        document = payloads.document(self.choice, 100_000)
        request = Request(
            "POST", "/v1/compress", body=document, moves=expected_metrics.compression(len(document)), pace=Pace(leaves="sending")
        )
        with contextlib.suppress(NoAnswerError):
            await self.client.send(request)

    async def long_stream(self) -> None:
        """Let a model generate a long text, and read it slowly."""
        await self.client.send(model_request(self.context, CHAT, _TOKENS, Pace(reading=self.context.slow), stream=True))

    async def leaves_a_stream(self) -> None:
        """Leave at the first tokens."""
        with contextlib.suppress(NoAnswerError):
            await self.client.send(model_request(self.context, CHAT, _TOKENS, Pace(leaves="reading"), stream=True))

    async def large_object(self) -> None:
        """Store a large object slowly, and retrieve it while it is being verified."""
        assert self._vault is not None
        name = await self._vault.store(
            payloads.document(self.choice, 2 * _LARGE_BYTES), "?stream=1", Pace(self.context.slow, self.context.slow)
        )
        if name is not None:
            await self._vault.delete(name)

    async def tear_down(self) -> None:
        if self._vault is not None:
            await self._vault.tear_down()
