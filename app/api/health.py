"""Health of this worker: alive as soon as it answers, ready once it has started and until it begins to stop."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from app.api.problems import ProblemError, responses

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """What a probe sees."""

    status: Literal["ok", "ready"]


def started(request: Request) -> bool:
    """Say whether the application's lifespan is under way."""
    return bool(getattr(request.app.state, "started", False))


@router.get("/live", summary="Is the process alive?")
async def live() -> Health:
    """Answer whenever the event loop runs."""
    return Health(status="ok")


@router.get("/ready", summary="May this worker be sent requests?", responses=responses(_503="starting or stopping"))
async def ready(started: Annotated[bool, Depends(started)]) -> Health:
    """Answer 200 between the end of the start and the begin of the stop."""
    if not started:
        raise ProblemError(503, "not_started", "this worker is starting or stopping")
    return Health(status="ready")
