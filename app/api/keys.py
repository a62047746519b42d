"""API keys and users over HTTP: for admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app import store
from app.api import json_bodies
from app.api.problems import ProblemError, responses

if TYPE_CHECKING:
    from app.store.database import Database
    from app.store.models import ApiKey, User

router = APIRouter(prefix="/v1", tags=["keys"])

_LARGEST = 2**31 - 1
_NAME = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
_CENTURY_SECONDS = 36_500 * 86_400

Number = Annotated[int, Path(ge=1, le=_LARGEST)]
Name = Annotated[str, Path(pattern=_NAME)]
After = Annotated[int, Query(ge=0, le=_LARGEST, description="The id of the last entry of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Role = Literal["user", "admin"]


class NewKey(BaseModel):
    """The user and the lifetime of a new key."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(pattern=_NAME, description="The owner of the key; created if there is none")
    role: Role | None = Field(default=None, description="The role of a new user (user), or the present role of an existing one")
    expires_in: Annotated[int, Field(ge=1, le=_CENTURY_SECONDS), json_bodies.WHOLE] | None = Field(
        default=None, description="Seconds; without it, the key does not expire"
    )


class Key(BaseModel):
    """A key without its secret. Times are seconds since 1970."""

    id: int
    prefix: str = Field(description="The start of the key")
    user: str
    role: Role
    created: float
    expires: float | None
    revoked: float | None


class MadeKey(Key):
    """A new key."""

    key: str = Field(description="The key itself, which is shown only once")


class Keys(BaseModel):
    """A page of keys, oldest first."""

    keys: list[Key]


class Person(BaseModel):
    """A user."""

    id: int
    name: str
    role: Role
    active: bool = Field(description="Whether their keys are accepted")
    created: float


class People(BaseModel):
    """A page of users, oldest first."""

    users: list[Person]


class Change(BaseModel):
    """Changes to a user. Fields that are left out keep their values."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    active: bool | None = None


@router.post(
    "/keys",
    status_code=201,
    openapi_extra=json_bodies.described(NewKey),
    responses=responses(
        **json_bodies.REFUSALS, _409="The user has another role", _503="The database is unavailable", _507="The database is full"
    ),
)
async def create(request: Request, response: Response) -> MadeKey:
    """Create a key."""
    wanted = await json_bodies.read(request, NewKey)
    async with _database(request).writing() as session:
        try:
            key, kept = await store.keys.create(session, wanted.user, wanted.role, wanted.expires_in)
        except store.keys.RoleDiffersError as error:
            raise ProblemError(409, "role_differs", f"{error}; PATCH /v1/users/{wanted.user} changes it") from error
    response.headers["Cache-Control"] = "no-store"
    return MadeKey(key=key, **_shown(kept).model_dump())


@router.get("/keys", responses=responses(_422="The request is not valid", _503="The database is unavailable"))
async def listing(request: Request, after: After = 0, limit: Limit = 100) -> Keys:
    """List the keys, revoked ones too."""
    async with _database(request).reading() as session:
        return Keys(keys=[_shown(row) for row in await store.keys.listing(session, after, limit)])


@router.delete(
    "/keys/{number}",
    status_code=204,
    response_class=Response,
    responses=responses(
        _404="There is no such key", _422="The request is not valid", _503="The database is unavailable", _507="The database is full"
    ),
)
async def revoke(request: Request, number: Number) -> Response:
    """Revoke a key for ever. Once this is answered, every worker refuses the key."""
    async with _database(request).writing() as session:
        if not await store.keys.revoke(session, number):
            raise ProblemError(404, "unknown_key", f"there is no key {number}")
    return Response(status_code=204)


@router.get("/users", responses=responses(_422="The request is not valid", _503="The database is unavailable"))
async def people(request: Request, after: After = 0, limit: Limit = 100) -> People:
    """List the users."""
    async with _database(request).reading() as session:
        return People(users=[_person(row) for row in await store.keys.users(session, after, limit)])


@router.patch(
    "/users/{name}",
    openapi_extra=json_bodies.described(Change),
    responses=responses(
        **json_bodies.REFUSALS, _404="There is no such user", _503="The database is unavailable", _507="The database is full"
    ),
)
async def change(request: Request, name: Name) -> Person:
    """Change the role of a user, or disable or enable all of their keys."""
    wanted = await json_bodies.read(request, Change)
    async with _database(request).writing() as session:
        row = await store.keys.user(session, name)
        if row is None:
            raise ProblemError(404, "unknown_user", f"there is no user {name}")
        row.role = wanted.role or row.role
        row.active = row.active if wanted.active is None else wanted.active
        return _person(row)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _shown(row: ApiKey) -> Key:
    return Key(
        id=row.id,
        prefix=row.prefix,
        user=row.user.name,
        role="admin" if row.user.role == "admin" else "user",
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
    )


def _person(row: User) -> Person:
    return Person(id=row.id, name=row.name, role="admin" if row.role == "admin" else "user", active=row.active, created=row.created)
