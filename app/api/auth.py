"""Authentication: an API key as `Authorization: Bearer <key>`, and the role that a route requires.

Each request asks the database, so that every worker refuses a key as soon as it is revoked. ADMIN_KEY needs no database. With
REQUIRE_API_KEY=0 every caller may use every route, and a valid key only identifies its user.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app import store
from app.api import ryot_openapi
from app.api.problems import ProblemError, of_store, responses
from app.integrations.ryot.errors import RefusedError, RyotError
from app.store.errors import StoreError

if TYPE_CHECKING:
    from app.store.database import Database
    from app.store.models import ApiKey

Role = Literal["user", "admin"]


@dataclass(frozen=True)
class Caller:
    """The sender of a request. `user` is None for a caller without a row in the database."""

    role: Role
    user: int | None = None
    key: int | None = None


ANYBODY = Caller("admin")
"""A caller without a key, where none is required."""
OPERATOR = Caller("admin")
"""A caller with ADMIN_KEY."""


class Guard:
    """Identifies the caller of a request by its key."""

    def __init__(self, database: Database, *, required: bool, admin_key: str | None) -> None:
        self.required = required
        self._database = database
        self._admin_key = admin_key

    async def caller(self, key: str | None, role: Role) -> Caller:
        """Return the caller with this key; ProblemError if it may not act in `role`, StoreError if the database fails."""
        if not self.required:
            return await self._guess(key)
        if key is None:
            raise _unauthorized("missing_key", "this route needs an API key: send `Authorization: Bearer <key>`")
        if self._admin_key is not None and hmac.compare_digest(key.encode(), self._admin_key.encode()):
            return OPERATOR
        row = await self._find(key)
        if row is None:
            raise _unauthorized("wrong_key", "there is no such API key")
        if row.revoked is not None or not row.user.active:
            raise _unauthorized("revoked_key", "this API key was revoked")
        if row.expires is not None and row.expires <= time.time():
            raise _unauthorized("expired_key", "this API key has expired")
        caller = _of(row)
        if role == "admin" and caller.role != "admin":
            raise ProblemError(403, "wrong_role", "this route needs an API key of an admin")
        return caller

    async def _guess(self, key: str | None) -> Caller:
        try:
            row = None if key is None else await self._find(key)
        except StoreError:
            return ANYBODY
        if row is None or row.revoked is not None or not row.user.active or (row.expires is not None and row.expires <= time.time()):
            return ANYBODY
        return Caller("admin", row.user_id, row.id)

    async def _find(self, key: str) -> ApiKey | None:
        if not key.startswith("nk-"):
            return None
        async with self._database.reading() as session:
            return await store.keys.find(session, key)


def _of(row: ApiKey) -> Caller:
    return Caller("admin" if row.user.role == "admin" else "user", row.user_id, row.id)


def _unauthorized(reason: str, detail: str) -> ProblemError:
    return ProblemError(401, reason, detail, {"WWW-Authenticate": "Bearer"})


_bearer = HTTPBearer(auto_error=False, description="An API key: docs/keys.md describes how to get one")
Given = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


async def _check(request: Request, given: HTTPAuthorizationCredentials | None, role: Role) -> None:
    guard: Guard = request.app.state.guard
    caller = request.state.caller = await guard.caller(given.credentials if given else None, role)
    if caller.user is not None:
        await request.app.state.business.seen(caller.user)


async def _user(request: Request, given: Given) -> None:
    await _check(request, given, "user")


async def _admin(request: Request, given: Given) -> None:
    await _check(request, given, "admin")


async def _openai_user(request: Request, given: Given) -> None:
    """Raise errors in OpenAI's format."""
    try:
        await _check(request, given, "user")
    except ProblemError as error:
        raise RefusedError(error.detail, status=error.status, code="invalid_api_key", headers=error.headers) from error
    except StoreError as error:
        problem = of_store(error)
        raise RyotError(problem.detail, status=problem.status, code=problem.reason, headers=problem.headers) from error


async def _anybody(request: Request) -> None:
    """Remove the security schemes from the OpenAPI document of a service that requires no key."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = HTTPAuthorizationCredentials(scheme=scheme, credentials=key) if scheme.lower() == "bearer" and key else None
    await _check(request, given, "user")


_REFUSALS: dict[str, str] = {
    "_401": "There is no API key in the request, or it is wrong, expired or revoked",
    "_503": "The database is unavailable",
}
_ROLE = {"_403": "The API key is not an admin's"}


def include(app: FastAPI, router: APIRouter, role: Role, *, openai: bool = False) -> None:
    """Add a router whose routes require a key of this role. In all of them `request.state.caller` is a Caller.

    With `openai`, refusals have OpenAI's format.
    """
    guard: Guard = app.state.guard
    if not guard.required:
        app.include_router(router, dependencies=[Depends(_anybody)])
        return
    if openai:
        app.include_router(router, dependencies=[Depends(_openai_user)], responses=ryot_openapi.KEYS)
        return
    described: dict[int | str, dict[str, Any]] = responses(**_REFUSALS, **(_ROLE if role == "admin" else {}))
    app.include_router(router, dependencies=[Depends(_admin if role == "admin" else _user)], responses=described)
