"""The table of users: noted in a mapped file, taken exactly once, whoever dies when."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from monitoring import users
from monitoring.multiprocess import shared_state
from monitoring.users import CAPACITY, Table, Taken, dead, hashed
from tests.conftest import ROOT, built_environment
from tests.multiprocess.simulated_workers import no_lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOW = 3600


@pytest.fixture(autouse=True)
def directory(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_state, "store", no_lease(metrics_directory))
    monkeypatch.setattr(users, "metrics_directory", lambda: metrics_directory)
    return metrics_directory


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table(WINDOW)
    yield made
    made.close()


class Database:
    """What a database keeps: sums by user, and up to which half each table is in them."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.halves: dict[int, int] = {}

    def keep(self, taken: Taken) -> None:
        if self.halves.get(taken.table, 0) >= taken.half:
            return
        self.halves[taken.table] = taken.half
        for note in taken.notes:
            self.requests[note.user] = self.requests.get(note.user, 0) + note.requests

    def fetch(self, table: Table) -> None:
        while (taken := table.take()) is not None:
            self.keep(taken)
            table.emptied(taken)

    def fetch_dead(self) -> None:
        for taken in dead():
            self.keep(taken)


def test_each_request_is_taken_once(table: Table) -> None:
    database = Database()
    before = time.time()
    for turn in range(1, 4):
        for user in (7, -8, 9):
            for _ in range(abs(user)):
                table.note(user)
        taken = table.take()
        assert taken is not None
        assert {note.user: note.requests for note in taken.notes} == {7: 7, -8: 8, 9: 9}
        assert all(note.window == int(before // WINDOW) and before * 1000 - 1 <= note.seen <= time.time() * 1000 for note in taken.notes)
        table.note(7)
        assert table.take() == taken, "until it is emptied it is the same"
        database.keep(taken)
        database.keep(taken)
        table.emptied(taken)
        database.fetch(table)
        assert table.take() is None
        assert database.requests == {7: 8 * turn, -8: 8 * turn, 9: 9 * turn}
    assert table.lost == 0


def test_the_table_of_a_dead_process_is_taken_in_any_state(directory: Path) -> None:
    for state in ("noted", "taken", "kept", "emptied", "noted again"):
        database, table = Database(), Table(WINDOW)
        for _ in range(3):
            table.note(5)
        wanted = {5: 3}
        taken = table.take() if state != "noted" else None
        if state in ("kept", "emptied", "noted again"):
            assert taken is not None
            database.keep(taken)
        if state in ("emptied", "noted again"):
            assert taken is not None
            table.emptied(taken)
        if state in {"noted again", "taken"}:
            table.note(6)
            wanted[6] = 1
        table.close()
        database.fetch_dead()
        assert database.requests == wanted, state
        assert list(directory.glob("*.users")) == []


def test_dead_tables_are_taken_once_when_the_taker_dies(directory: Path) -> None:
    database, table = Database(), Table(WINDOW)
    table.note(5)
    taken = table.take()
    assert taken is not None
    table.note(6)
    table.close()
    for stop in (1, 2, 3):
        for number, half in enumerate(dead(), 1):
            database.keep(half)
            if number == stop:
                break  # killed before it is emptied
    database.fetch_dead()
    assert database.requests == {5: 1, 6: 1}


def test_the_next_process_continues_the_table(directory: Path) -> None:
    database, table = Database(), Table(WINDOW)
    table.note(5)
    table.close()
    other = Table(WINDOW)
    other.note(5)
    other.note(6)
    assert [path.name for path in directory.glob("*.users")] == ["0.users"]
    database.fetch(other)
    assert database.requests == {5: 2, 6: 1}
    another = Table(WINDOW)
    another.note(7)
    assert sorted(path.name for path in directory.glob("*.users")) == ["0.users", "1.users"]
    assert list(dead()) == [], "living ones are left alone"
    other.close()
    another.close()


def test_windows_are_kept_apart(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = (0.0, WINDOW - 0.1, WINDOW, 5 * WINDOW, WINDOW + 1)  # back, too
    clock = types.SimpleNamespace(time=iter(moments).__next__, monotonic=time.monotonic)
    monkeypatch.setattr(users, "time", clock)
    for _ in moments:
        table.note(5)
    taken = table.take()
    assert taken is not None
    found: dict[int, int] = {}
    for note in taken.notes:
        found[note.window] = found.get(note.window, 0) + note.requests
    assert found == {0: 2, 1: 2, 5: 1}


def test_a_table_is_bounded_and_counts_lost_notes(table: Table) -> None:
    database = Database()
    for user in range(1, CAPACITY + 11):
        table.note(user)
    table.note(1)
    assert table.lost == 10
    taken = table.take()
    for user in range(1, CAPACITY + 6):
        table.note(user)
    assert table.lost == 15, "the other half has as much room"
    assert taken is not None
    database.keep(taken)
    table.emptied(taken)
    database.fetch(table)
    assert sum(database.requests.values()) == 2 * CAPACITY + 1
    table.note(5)
    assert table.lost == 15


def test_a_forked_child_has_a_table_of_its_own(table: Table, directory: Path) -> None:
    table.note(5)
    pid = os.fork()
    if pid == 0:
        table.note(5)
        table.note(6)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    database = Database()
    database.fetch(table)
    assert database.requests == {5: 1}
    database.fetch_dead()
    assert database.requests == {5: 2, 6: 1}


@pytest.mark.parametrize("damage", ["cut", "zeros", "garbage", "longer", "removed"])
@pytest.mark.parametrize("living", [True, False])
def test_a_damaged_table_is_replaced(directory: Path, damage: str, living: bool, caplog: pytest.LogCaptureFixture) -> None:
    table = Table(WINDOW)
    table.note(5)
    path = directory / "0.users"
    size = path.stat().st_size
    if not living:
        table.close()
    if damage == "cut":
        os.truncate(path, 100)
    elif damage == "longer":
        os.truncate(path, size + 8)
    elif damage == "removed":
        path.unlink()
    else:
        path.write_bytes(bytes(size) if damage == "zeros" else os.urandom(size))
    database = Database()
    if living:
        for user in (5, 6, 7):
            table.note(user)
        database.fetch(table)
        for user in (5, 6, 7, 8):
            table.note(user)
        database.fetch(table)
        assert database.requests[8] == 1
        table.close()
    database.fetch_dead()
    if not living and damage != "removed":
        assert "damaged" in caplog.text
    assert list(directory.glob("*.users")) == []


def test_without_a_directory_it_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_state, "store", no_lease(None))
    table, database = Table(WINDOW), Database()
    table.note(5)
    database.fetch(table)
    table.note(5)
    database.fetch(table)
    assert database.requests == {5: 2}


def test_without_a_usable_file_notes_are_in_memory(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        (directory / f"{number}.users").mkdir()
    table, database = Table(WINDOW), Database()
    for user in (5, 6, 5):
        table.note(user)
    database.fetch(table)
    assert database.requests == {5: 2, 6: 1}
    assert caplog.text.count("the table of users goes on without this file") == 1


def test_notes_in_memory_are_taken_before_the_file_is_used(directory: Path) -> None:
    (directory / "0.users").mkdir()
    table, database = Table(WINDOW), Database()
    for user in (5, 6, 5):
        table.note(user)
    taken = table.take()
    assert taken is not None
    table.note(6)
    (directory / "0.users").rmdir()
    table._failed.end()
    table.note(7)
    database.keep(taken)
    table.emptied(taken)
    database.fetch(table)
    table.note(8)
    assert (directory / "0.users").is_file(), "it is noted there from now on"
    table.close()
    database.fetch_dead()
    assert database.requests == {5: 2, 6: 2, 7: 1, 8: 1}


def test_a_taken_half_empties_no_replaced_table(table: Table, directory: Path) -> None:
    database = Database()
    table.note(5)
    taken = table.take()
    assert taken is not None
    os.truncate(directory / "0.users", 0)
    table.note(6)
    database.keep(taken)
    table.emptied(taken)
    database.fetch(table)
    assert database.requests == {5: 1, 6: 1}


def test_dead_tables_are_taken_beside_unusable_files(directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, database = Table(WINDOW), Database()
    table.note(5)
    table.close()
    (directory / "0.users").rename(directory / "7.users")
    (directory / "1.users").mkdir()
    (directory / "2.users").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(directory / "3.users")
    (directory / "4.users").touch()  # on a full disk that is all that a process can make
    for _ in range(3):
        database.fetch_dead()
    assert database.requests == {5: 1}
    assert sorted(path.name for path in directory.glob("*.users")) == ["1.users", "2.users", "3.users"]
    assert len(caplog.records) == 3, "one line for each"
    assert "damaged" not in caplog.text


def test_a_full_disk_keeps_no_empty_table(directory: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    table.note(5)
    assert not table.shared
    assert list(directory.glob("*.users")) == []
    for number in (0, 3):
        (directory / f"{number}.users").touch()  # its process was killed before it had removed it
    assert list(dead()) == []
    assert list(directory.glob("*.users")) == []
    taken = table.take()
    assert taken is not None
    assert [(note.user, note.requests) for note in taken.notes] == [(5, 1)]


def test_hashes_need_the_key() -> None:
    assert hashed("ann", b"k") == hashed("ann", b"k") != hashed("ann", b"l") != hashed("bob", b"l")
    assert -(2**63) <= hashed("ann", b"k") < 2**63


PROGRAM = """
import os, random, sys
from monitoring import multiprocess
multiprocess.install()
from monitoring.users import Table
from tests.multiprocess.simulated_workers import no_lease
table = Table(3600)
while True:
    user = random.randrange(1, 50)
    print(user, flush=True)
    table.note(user)
    print("noted", flush=True)
"""


def test_notes_survive_kill_9(directory: Path) -> None:
    database: Any = Database()
    begun: dict[int, int] = {}
    done: dict[int, int] = {}
    environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    for _ in range(5):
        running = [
            subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in running:
            assert process.stdout is not None
            for _ in range(random.randrange(1, 400)):
                user = int(process.stdout.readline())
                begun[user] = begun.get(user, 0) + 1
                process.stdout.readline()
                done[user] = done.get(user, 0) + 1
            process.send_signal(signal.SIGKILL)
            # What is in the pipe was noted before the kill, too.
            rest = process.communicate()[0].split("\n")
            pending = 0
            for line in rest:
                if line == "noted":
                    done[pending] = done.get(pending, 0) + 1
                elif line.isdecimal():
                    pending = int(line)
                    begun[pending] = begun.get(pending, 0) + 1
        database.fetch_dead()
    for user, requests in begun.items():
        assert done.get(user, 0) <= database.requests.get(user, 0) <= requests
    assert database.requests.keys() <= begun.keys()
