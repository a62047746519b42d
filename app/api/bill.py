"""Bills a call of a model: once, in one transaction, before the client receives the end of the answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from app import store
from app.api.problems import of_store
from app.integrations.ryot.errors import RyotError
from app.store.errors import StoreError
from monitoring import metrics

if TYPE_CHECKING:
    from fastapi import Request

    from app.api.auth import Caller, Guard
    from app.api.call_metrics import Tally
    from app.store.database import Database

_log = logging.getLogger("neurectomy.billing")


class Bill:
    """The bill of one call. If keys are required, a call that cannot be billed fails; otherwise that is logged."""

    def __init__(self, request: Request, tally: Tally) -> None:
        self._database: Database = request.app.state.database
        self._guard: Guard = request.app.state.guard
        self._caller: Caller = request.state.caller
        self._endpoint = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        self._tally = tally
        self._settling: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Bill the tokens so far; later calls do nothing. RyotError if the call must be billed and cannot be.

        A caller that is cancelled in the meantime, because the client left, interrupts neither the transaction nor the counting.
        """
        if self._settling is None:
            if not (self._tally.prompted or self._tally.generated):
                return
            self._settling = asyncio.ensure_future(self._settle())
        await asyncio.shield(self._settling)

    async def _settle(self) -> None:
        model, prompted, generated = self._tally.label, self._tally.prompted, self._tally.generated
        try:
            async with self._database.writing() as session:
                call = store.billing.BilledCall(self._endpoint, model, prompted, generated, self._caller.user, self._caller.key)
                cost = await store.billing.bill(session, call)
        except StoreError as error:
            if not self._guard.required:
                _log.warning("a call is not billed: %s", error)
                return
            problem = of_store(error)
            raise RyotError(
                f"the call cannot be billed: {error}", status=problem.status, code=problem.reason, headers=problem.headers
            ) from error
        dollars = metrics.cost_dollars.labels(self._endpoint, model)
        tokens = metrics.tokens_generated.labels(model)
        tokens.inc(generated)
        dollars.inc(float(cost))
