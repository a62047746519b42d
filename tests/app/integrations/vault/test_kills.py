"""Workers are killed while objects are stored and snapshots taken: what was acknowledged is there, whole, and nothing is half there."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import create, keyring
from app.integrations.vault.maintenance import Maintenance
from app.integrations.vault.snapshots import Snapshots
from tests.conftest import ROOT
from tests.processes import PATIENCE_SECONDS, send, wait_dead, wait_until

from .conftest import given, read, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn

#: `make proof` has the long form.
LONG = "PROOF_REPEATS" in os.environ
OBJECTS = 10_000 if LONG else 1_600
WRITERS = 8
KILLS = 8
SNAPSHOT_KILLS = 50 if LONG else 10


def content(name: str) -> bytes:
    """Give what an object of this name has, so that it can be checked by its name alone."""
    return sha256(name.encode()).hexdigest().encode() * (1 + sha256(name.encode()).digest()[0] % 40)


@dataclass
class Writer:
    """Stores objects one after the other, and notes which were acknowledged, refused, or neither."""

    port: int
    names: list[str]
    acknowledged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def run(self) -> None:
        connection = None
        for name in self.names:
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
                connection.request("PUT", f"/v1/vault/objects/{name}", content(name))
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 201, body
                self.acknowledged.append(name)
            except (OSError, http.client.HTTPException):
                self.unknown.append(name)
                with contextlib.suppress(OSError):
                    if connection is not None:
                        connection.close()
                connection = None
        if connection is not None:
            connection.close()


@pytest.mark.usefixtures("preloaded")
def test_ten_thousand_objects_from_four_workers_that_are_killed(gunicorn: Gunicorn, tmp_path: Path) -> None:
    folder, keys = tmp_path / "vault", tmp_path / "vault.key"
    keyring.create(keys)
    master = gunicorn.start(WEB_CONCURRENCY="4", VAULT_URL=folder.as_uri(), VAULT_KEY_FILE=str(keys))
    writers = [Writer(gunicorn.port, [f"{number}/{index}" for index in range(OBJECTS // WRITERS)]) for number in range(WRITERS)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        for kill in range(KILLS):
            goal = OBJECTS * (kill + 1) // (KILLS + 2)
            wait_until(lambda goal=goal: sum(len(writer.acknowledged) for writer in writers) >= goal, "objects are stored")
            wait_until(lambda: len(gunicorn.workers(master)) == 4, "four workers run")
            # Every other time the oldest, so that all of the first four die: one that has just begun may never have had a connection.
            victim = random.choice(gunicorn.workers(master)) if kill % 2 else min(gunicorn.workers(master))
            send(victim, signal.SIGKILL)
            wait_dead(victim)
    finally:
        for thread in threads:
            thread.join()
    acknowledged = [name for writer in writers for name in writer.acknowledged]
    unknown = [name for writer in writers for name in writer.unknown]
    assert len(acknowledged) + len(unknown) == OBJECTS
    assert unknown, "no store was cut off: the kills prove nothing"
    counted = sum(
        float(line.rpartition(" ")[2])
        for line in gunicorn.scrape().splitlines()
        if line.startswith('neurectomy_sigmavault_operations_total{operation="store"')
    )
    print(f"{len(acknowledged)} acknowledged, {counted:g} counted, {OBJECTS} sent")
    assert len(acknowledged) <= counted <= OBJECTS

    async def check() -> None:
        vault = create(folder.as_uri(), "unused", str(keys))
        for name in acknowledged:
            assert await read(vault, name) == content(name)
        there = set(await vault.names(limit=OBJECTS))
        assert there >= set(acknowledged)
        for name in there - set(acknowledged):  # whole, or not there at all
            assert await read(vault, name) == content(name)
        maintenance = Maintenance(vault, Snapshots(vault))
        await maintenance.clean(grace=0)
        await vault.storage.clean(time.time() + 1)
        left = [path for path in folder.glob("blobs/*/*") if path.is_file()]
        assert len(left) == len(there), "what died half way is still there"

    run(check())


SNAPSHOT = """
import asyncio, sys
from app.integrations.vault import Snapshots, create
async def main():
    snapshots = Snapshots(create(sys.argv[1], "unused", sys.argv[2]))
    while True:
        print((await snapshots.backup()).id, flush=True)
        if len(sys.argv) > 3:
            await snapshots.request(sys.argv[3])
            await snapshots.go_on()
asyncio.run(main())
"""


def killed(*arguments: str) -> list[str]:
    """Take snapshots, or restore one again and again, until killed at a random moment; give the ids of those that were taken."""
    process = subprocess.Popen(
        [sys.executable, "-c", SNAPSHOT, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ.get("PATH", "")}
    )
    assert process.stdout is not None
    with process:
        first = process.stdout.readline()
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        return [first.strip(), *(line.strip() for line in process.stdout if line.endswith("\n"))]


def test_a_snapshot_killed_at_any_moment_is_whole_or_not_there(tmp_path: Path) -> None:
    url, keys = (tmp_path / "vault").as_uri(), tmp_path / "vault.key"
    keyring.create(keys)
    vault = create(url, "unused", str(keys))
    snapshots = Snapshots(vault)
    names = [f"object/{number}" for number in range(50)]

    async def prepare() -> str:
        for name in names:
            await vault.store(name, given(b"old"))
        taken = await snapshots.backup()
        for name in (*names, "later"):
            await vault.store(name, given(b"new"))
        return taken.id

    async def restored(snapshot: str, expected: bytes) -> None:
        await snapshots.request(snapshot)
        assert await snapshots.go_on() == snapshot
        assert {await read(vault, name) for name in await vault.names()} == {expected}

    old = run(prepare())
    for turn in range(SNAPSHOT_KILLS):
        taken = killed(url, str(keys))
        there = [each.id for each in run(snapshots.all())]
        assert set(taken) <= set(there)
        # Each that is there can be read whole, those included that nobody was told of.
        assert all(len(run(snapshots.contents(each))) == 51 for each in there if each != old)
        if turn % 10 == 0:
            run(restored(old, b"old"))
            run(restored(there[-1], b"new"))
        for each in there[:-1]:
            if each != old:
                run(snapshots.delete(each))


def test_a_restore_killed_at_any_moment_is_finished(tmp_path: Path) -> None:
    url, keys = (tmp_path / "vault").as_uri(), tmp_path / "vault.key"
    keyring.create(keys)
    vault = create(url, "unused", str(keys))
    snapshots = Snapshots(vault)

    async def prepare() -> str:
        for number in range(50):
            await vault.store(f"object/{number}", given(b"old"))
        return (await snapshots.backup()).id

    async def change() -> None:
        for number in range(30, 80):
            await vault.store(f"object/{number}", given(b"new"))

    old = run(prepare())
    unfinished = 0
    for _ in range(10):
        run(change())
        killed(url, str(keys), old)
        if run(snapshots.restoring()) is not None:
            unfinished += 1
            run(Maintenance(vault, snapshots).turn())
        else:
            run(snapshots.request(old))
            run(snapshots.go_on())
        assert run(snapshots.restoring()) is None
        found = {name: run(read(vault, name)) for name in run(vault.names())}
        assert found == {f"object/{number}": b"old" for number in range(50)}
    print(f"{unfinished} of 10 restores were unfinished")
