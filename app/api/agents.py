"""The collective of agents over HTTP: they register, send heartbeats, take tasks and report them, to any worker."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app import store
from app.api import json_bodies
from app.api.problems import ProblemError, responses
from app.reporting.agents import count_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.store import models
    from app.store.database import Database

router = APIRouter(prefix="/v1", tags=["agents"])

_ID = r"^[a-z0-9-]{1,40}$"
_LARGEST = 2**53 - 1
_UNKNOWN = "No such agent is registered"
_AWAY = {"_503": "The database is unavailable", "_507": "The database is full"}

AgentId = Annotated[str, Path(pattern=_ID)]
Number = Annotated[int, Path(ge=1, le=_LARGEST)]


class NewAgent(BaseModel):
    """An agent that registers."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=_ID)


class Agent(BaseModel):
    """One agent and its state."""

    id: str
    registered: float = Field(description="Seconds since 1970")
    heartbeat: float = Field(description="The last one, in seconds since 1970")
    healthy: bool = Field(description="Whether the last heartbeat is less than 30 seconds old")
    utilization: float = Field(description="Share of the last five minutes in which it had a task, 0 to 1")


class Agents(BaseModel):
    """All agents."""

    agents: list[Agent]


class NewTask(BaseModel):
    """A task to add."""

    model_config = ConfigDict(extra="forbid")

    input: Any = Field(description="Any JSON that agents understand")


class Report(BaseModel):
    """The result of a task."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["success", "error", "timeout", "cancelled"]
    result: Any = None


class Task(BaseModel):
    """One task."""

    id: int
    input: Any
    agent: str | None = Field(description="The agent that has it, or did it")
    status: str = Field(description="waiting, taken, success, error, timeout or cancelled")
    result: Any = None


@router.post(
    "/agents",
    status_code=201,
    openapi_extra=json_bodies.described(NewAgent),
    responses=responses(**json_bodies.REFUSALS, _409="The most agents are registered already", **_AWAY),
)
async def register(request: Request) -> NewAgent:
    """Register an agent, which counts as a heartbeat. Registering it again changes nothing."""
    wanted = await json_bodies.read(request, NewAgent)
    async with _writing(request) as session:
        await store.agents.register(session, wanted.id)
    return wanted


@router.get("/agents", responses=responses(_503="The database is unavailable"))
async def listing(request: Request) -> Agents:
    """List the agents."""
    async with _database(request).reading() as session:
        return Agents(agents=[Agent(**vars(state)) for state in await store.agents.states(session)])


@router.delete(
    "/agents/{agent}", status_code=204, response_class=Response, responses=responses(_404=_UNKNOWN, _422="The id is not valid", **_AWAY)
)
async def remove(request: Request, agent: AgentId) -> Response:
    """Remove an agent. Its tasks wait for other agents."""
    async with _writing(request) as session:
        await store.agents.remove(session, agent)
    return Response(status_code=204)


@router.post(
    "/agents/{agent}/heartbeat",
    status_code=204,
    response_class=Response,
    responses=responses(_404=_UNKNOWN, _422="The id is not valid", **_AWAY),
)
async def heartbeat(request: Request, agent: AgentId) -> Response:
    """Record a heartbeat. An agent sends one at least every 30 seconds."""
    async with _writing(request) as session:
        await store.agents.beat(session, agent)
    return Response(status_code=204)


@router.post(
    "/agents/{agent}/tasks",
    responses={204: {"description": "No task waits"}, **responses(_404=_UNKNOWN, _422="The id is not valid", **_AWAY)},
    response_model=Task,
)
async def take(request: Request, agent: AgentId) -> Response | Task:
    """Take the oldest task that waits, or that an unhealthy agent has. Counts as a heartbeat."""
    async with _writing(request) as session:
        task = await store.agents.take(session, agent)
    return Response(status_code=204) if task is None else _shown(task)


@router.post(
    "/agents/{agent}/tasks/{task}/report",
    status_code=204,
    response_class=Response,
    openapi_extra=json_bodies.described(Report),
    responses=responses(
        **json_bodies.REFUSALS, _404=_UNKNOWN, _409="The task is not assigned to this agent, or was reported already", **_AWAY
    ),
)
async def report(request: Request, agent: AgentId, task: Number) -> Response:
    """Report how a task ended, once."""
    given = await json_bodies.read(request, Report)
    result = None if given.result is None else _text("result", given.result)
    async with _writing(request) as session:
        seconds = await store.agents.report(session, agent, task, given.status, result)
    count_task(agent, given.status, seconds)
    return Response(status_code=204)


@router.post(
    "/tasks",
    status_code=201,
    openapi_extra=json_bodies.described(NewTask),
    responses=responses(**json_bodies.REFUSALS, _409="The most tasks wait already", **_AWAY),
)
async def submit(request: Request) -> Task:
    """Add a task."""
    given = await json_bodies.read(request, NewTask)
    content = _text("input", given.input)
    async with _writing(request) as session:
        return _shown(await store.agents.submit(session, content))


@router.get(
    "/tasks/{task}", responses=responses(_404="There is no such task", _422="The number is not valid", _503="The database is unavailable")
)
async def read(request: Request, task: Number) -> Task:
    """Return a task, until a day after it was done."""
    async with _database(request).reading() as session:
        found = await store.agents.task(session, task)
    if found is None:
        raise ProblemError(404, "unknown_task", f"there is no task {task}")
    return _shown(found)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


@contextlib.asynccontextmanager
async def _writing(request: Request) -> AsyncIterator[AsyncSession]:
    """Return a session that writes; turn the errors of agents and tasks into answers."""
    try:
        async with _database(request).writing() as session:
            yield session
    except store.agents.AgentsError as error:
        raise ProblemError(404 if isinstance(error, store.agents.UnknownAgentError) else 409, error.reason, str(error)) from error


def _text(field: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ProblemError(422, "invalid", f"{field}: {error}") from error


def _shown(task: models.Task) -> Task:
    status = task.status or ("waiting" if task.taken is None else "taken")
    result = None if task.result is None else json.loads(task.result)
    return Task(id=task.id, input=json.loads(task.input), agent=task.agent, status=status, result=result)
