"""ΣVAULT over HTTP: raw bytes in, raw bytes out, encrypted in between.

An object is verified whole before its first byte is sent: up to 64 MiB in memory, a larger one in a first pass. With `stream=1` it is
sent while it is verified, and the response is cut off if the object proves damaged. Each operation is counted before its answer ends.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.api.compression import BINARY, RAW, RawResponse
from app.api.problems import ProblemError, responses
from app.api.raw_bodies import pieces
from app.integrations import vault
from app.integrations.vault import object_names
from monitoring import metrics

router = APIRouter(prefix="/v1/vault/objects", tags=["ΣVAULT"])

AHEAD_BYTES = 64 * 1024 * 1024
"""An object up to this size is verified in memory before its first byte is sent."""

_LARGE_BYTES = 4 * 1024 * 1024
_RETRY_SECONDS = 5
_STATUS: dict[type[vault.VaultError], int] = {
    vault.InvalidNameError: 422,
    vault.KeyFileError: 503,
    vault.StorageFullError: 507,
    vault.TamperedError: 422,
    vault.UnavailableError: 503,
    vault.UnknownObjectError: 404,
    vault.UnknownSnapshotError: 404,
}
_log = logging.getLogger("neurectomy.vault")


@dataclass
class VaultState:
    """The state of the routes: `app.state.vault`."""

    objects: vault.Vault
    snapshots: vault.Snapshots
    most: int
    #: Objects of more than 4 MiB that a worker holds in memory at once.
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


class Stored(BaseModel):
    """An object that was stored."""

    name: str
    bytes: int


class ObjectNames(BaseModel):
    """Names of objects, sorted by code point."""

    names: list[str]


class _Operation:
    """The operation of one request: counted once, with its time."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._began = time.perf_counter()
        self._counted = False

    def finish(self, status: str) -> None:
        """Count the outcome."""
        if not self._counted:
            self._counted = True
            metrics.sigmavault_operation_duration_seconds.labels(self._operation).observe(time.perf_counter() - self._began)
            metrics.sigmavault_operations.labels(self._operation, status).inc()

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count an exception, and turn it into an answer."""
        try:
            with answers():
                yield
        except (asyncio.CancelledError, GeneratorExit, ClientDisconnect):
            self.finish("cancelled")
            raise
        except BaseException:
            self.finish("error")
            raise


@contextmanager
def answers() -> Iterator[None]:
    """Turn an exception of the vault into an answer."""
    try:
        yield
    except vault.VaultError as error:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
        again = math.ceil(error.retry_after or _RETRY_SECONDS) if isinstance(error, vault.UnavailableError) else None
        headers = None if again is None else {"Retry-After": str(again)}
        raise ProblemError(status, error.reason, str(error), headers) from error


_Name = Annotated[
    str,
    Path(
        max_length=object_names.MOST_BYTES,
        description=f"1 to {object_names.MOST_BYTES} bytes of UTF-8, and at most 900 where all but letters, digits, _, - and . "
        "count three times",
    ),
]
AWAY = "The store cannot be reached, or VAULT_KEY_FILE has no usable key"


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "description": "The object, of at most VAULT_MAX_OBJECT_BYTES bytes; it may be empty",
        "content": BINARY,
    }
}


@router.put(
    "/{name:path}",
    status_code=201,
    openapi_extra=_BODY,
    responses=responses(
        _413="The body is too large", _422="The name is not valid", _503=AWAY, _507="The store is full; nothing was stored"
    ),
)
async def store(request: Request, response: Response, name: _Name) -> Stored:
    """Store an object, replacing one with the same name."""
    operation = _Operation("store")
    with operation.refusals():
        state = _of(request)
        object_names.to_path(name)
        async with aclosing(pieces(request, state.most)) as body:
            size = await state.objects.store(name, body)
        operation.finish("success")
        response.headers["cache-control"] = "no-store"
        return Stored(name=name, bytes=size)


@router.get(
    "/{name:path}",
    response_class=RawResponse,
    responses={
        200: {"description": "The object", "content": BINARY},
        **responses(_404="There is no such object", _422="The name is not valid, or the stored object is damaged", _503=AWAY),
    },
)
async def retrieve(
    request: Request,
    name: _Name,
    stream: Annotated[int, Query(ge=0, le=1, description="1: send it while it is verified; damage cuts the response off")] = 0,
) -> Response:
    """Retrieve an object."""
    operation = _Operation("retrieve")
    with operation.refusals():
        state = _of(request)
        found = await state.objects.retrieve(name)
        # A client knows that an empty object is complete at the start of the response.
        if found.size == 0 or (not stream and found.size <= AHEAD_BYTES):
            if found.size <= _LARGE_BYTES:
                return _whole(operation, await _collect(found))
            async with state.large:
                return _whole(operation, await _collect(found))
        if not stream:
            async for _ in found.pieces():
                pass
        headers = {"content-length": str(found.size), "cache-control": "no-store"}
        return StreamingResponse(_send(operation, found, request), headers=headers, media_type=RAW)


@router.delete(
    "/{name:path}",
    status_code=204,
    response_class=Response,
    responses=responses(_404="There is no such object", _422="The name is not valid", _503=AWAY),
)
async def delete(request: Request, name: _Name) -> Response:
    """Delete an object."""
    operation = _Operation("delete")
    with operation.refusals():
        state = _of(request)
        await state.objects.delete(name)
        operation.finish("success")
        return Response(status_code=204)


@router.get("", responses=responses(_422="A parameter is not valid", _503=AWAY))
async def listing(
    request: Request,
    prefix: Annotated[str, Query(description="Only names that start like this", max_length=object_names.MOST_BYTES)] = "",
    after: Annotated[str, Query(description="Only names after this one", max_length=object_names.MOST_BYTES)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000, description="The most names")] = 1000,
) -> ObjectNames:
    """List names of objects."""
    with answers():
        return ObjectNames(names=await _of(request).objects.names(prefix, after, limit))


def _of(request: Request) -> VaultState:
    """Return the state; KeyFileError without a key, which is then the answer of every route."""
    if request.scope["path"].endswith("\n"):
        # The router drops the last line break of a name.
        raise HTTPException(404)
    state: VaultState = request.app.state.vault
    state.objects.keyring.check()
    return state


async def _collect(found: vault.Retrieval) -> bytes:
    whole = bytearray()
    async for piece in found.pieces():
        whole += piece
    return bytes(whole)


def _whole(operation: _Operation, content: bytes) -> Response:
    operation.finish("success")
    return RawResponse(content, headers={"cache-control": "no-store"})


async def _send(operation: _Operation, found: vault.Retrieval, request: Request) -> AsyncIterator[bytes]:
    """Yield the object's bytes, and count the operation before the last of them. A damaged object ends early."""
    try:
        kept = b""
        async for piece in found.pieces():
            if kept:
                yield kept
            kept = piece
        operation.finish("success")
        yield kept
    except (asyncio.CancelledError, GeneratorExit):
        operation.finish("cancelled")
        raise
    except vault.VaultError as error:
        operation.finish("error")
        _log.warning("%s: the response was cut off: %s", request.url.path, error)
        raise
