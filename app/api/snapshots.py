"""ΣVAULT's snapshots over HTTP: backup, list, restore, delete."""

import asyncio
import time

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.problems import responses
from app.api.vault import AWAY, VaultState, answers
from app.integrations import vault
from app.integrations.vault import maintenance

router = APIRouter(prefix="/v1/vault/snapshots", tags=["ΣVAULT"])

_RESTORE_SECONDS = 25.0
_UNKNOWN = "There is no such snapshot"
_DAMAGED = "The snapshot or an object is damaged"


class Snapshot(BaseModel):
    """The state of all objects at one time."""

    id: str
    created: float = Field(description="Seconds since 1970")


class SnapshotList(BaseModel):
    """All snapshots, oldest first."""

    snapshots: list[Snapshot]


class Restore(BaseModel):
    """The state of a restore."""

    id: str
    done: bool = Field(description="false: the restore is still running, and until it is done nothing can be stored or deleted")


@router.post("", status_code=201, responses=responses(_422=_DAMAGED, _503=AWAY, _507="The store is full; no snapshot was taken"))
async def backup(request: Request) -> Snapshot:
    """Take a snapshot of all objects."""
    started, status = time.perf_counter(), "error"
    try:
        with answers():
            taken = await _of(request).backup()
            status = "success"
            return _shown(taken)
    except asyncio.CancelledError:
        status = "cancelled"
        raise
    finally:
        maintenance.count_snapshot("backup", status, started)


@router.get("", responses=responses(_503=AWAY))
async def listing(request: Request) -> SnapshotList:
    """List the snapshots."""
    with answers():
        return SnapshotList(snapshots=[_shown(each) for each in await _of(request).all()])


@router.post(
    "/{snapshot}/restore",
    responses={
        202: {"description": "It is still running", "model": Restore},
        **responses(_404=_UNKNOWN, _422=_DAMAGED, _503=AWAY),
    },
)
async def restore(request: Request, response: Response, snapshot: str) -> Restore:
    """Restore all objects to a snapshot, and remove newer ones. A restore is completed even if the process that started it dies."""
    with answers():
        snapshots = _of(request)
        await snapshots.request(snapshot)
        until = time.monotonic() + _RESTORE_SECONDS
        while await snapshots.restoring() == snapshot:
            if time.monotonic() > until:
                response.status_code = 202
                return Restore(id=snapshot, done=False)
            await asyncio.sleep(0.1)
    return Restore(id=snapshot, done=True)


@router.delete("/{snapshot}", status_code=204, response_class=Response, responses=responses(_404=_UNKNOWN, _503=AWAY))
async def delete(request: Request, snapshot: str) -> Response:
    """Delete a snapshot. The blobs that only it needed are removed later."""
    with answers():
        await _of(request).delete(snapshot)
    return Response(status_code=204)


def _of(request: Request) -> vault.Snapshots:
    state: VaultState = request.app.state.vault
    state.objects.keyring.check()
    return state.snapshots


def _shown(snapshot: vault.Snapshot) -> Snapshot:
    return Snapshot(id=snapshot.id, created=snapshot.created)
