"""Health of this worker: alive as soon as it answers; ready from the end of its start, with a migrated database, until it stops.

A worker stays ready if its database fails later: routes that need the database answer with an error, and the others go on.
"""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from app.api.problems import ProblemError, responses
from app.store.errors import DatabaseAwayError

router = APIRouter(prefix="/health", tags=["health"])


_PATIENCE_SECONDS = 3
"""Shorter than the timeout of a usual probe."""


class Health(BaseModel):
    """The answer to a probe."""

    status: Literal["ok", "ready"]


def started(request: Request) -> bool:
    """Return whether the application has started and is not stopping."""
    return bool(getattr(request.app.state, "started", False))


@router.get("/live", summary="Is the process alive?")
async def live() -> Health:
    """Answer 200 whenever the event loop runs."""
    return Health(status="ok")


_UNREADY = responses(_503="starting or stopping, or the database is not ready")


@router.get("/ready", summary="May this worker be sent requests?", responses=_UNREADY)
async def ready(request: Request, started: Annotated[bool, Depends(started)]) -> Health:
    """Answer 200 from the end of the start until the stop, once the database has this version's schema."""
    if not started:
        raise ProblemError(503, "not_started", "this worker is starting or stopping")
    database = getattr(request.app.state, "database", None)
    if database is not None:
        try:
            await asyncio.wait_for(database.require_schema(), _PATIENCE_SECONDS)
        except TimeoutError as error:
            raise DatabaseAwayError(f"the database {database.location} does not answer within {_PATIENCE_SECONDS} seconds") from error
    return Health(status="ready")
