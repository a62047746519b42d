"""A state that processes share: its words survive deaths, and damage or a missing directory cost no more than the words."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import SharedState, shared_state
from monitoring.multiprocess.worker.slot_store import Phase
from tests.multiprocess.simulated_workers import no_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAGIC = b"counts-1"


@pytest.fixture(autouse=True)
def directory(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_state, "store", no_lease(metrics_directory))
    return metrics_directory


@pytest.fixture
def make() -> Iterator[Callable[[], SharedState]]:
    """Open the state once more, as another process would."""
    made: list[SharedState] = []

    def state() -> SharedState:
        made.append(SharedState("counts", 4, magic=MAGIC))
        return made[-1]

    yield state
    for each in made:
        each.close()


def add(state: SharedState, amount: int = 1) -> int:
    with state.editing() as words:
        words[1] += amount
        return words[1]


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked child; return its exit code."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_all_processes_have_the_same_words(make: Callable[[], SharedState], directory: Path) -> None:
    one, other = make(), make()
    assert [add(one), add(other), add(one)] == [1, 2, 3]
    assert one.shared
    assert other.words[1] == 3
    assert in_child(lambda: add(one, 10) == 13 or os._exit(2)) == 0
    assert one.words[1] == 13
    assert [path.name for path in directory.iterdir()] == ["counts.state"]


def test_a_killed_editor_leaves_its_words_and_no_lock(make: Callable[[], SharedState]) -> None:
    state = make()
    add(state)

    def die() -> None:
        with state.editing() as words:
            words[1] = 7
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert add(make()) == 8


def test_a_mapping_keeps_no_edit_lock(make: Callable[[], SharedState]) -> None:
    one, other = make(), make()
    for turn in range(1, 4):
        assert add(one) == 2 * turn - 1
        assert add(other) == 2 * turn


@pytest.mark.parametrize("damage", ["cut", "longer", "zeros", "another meaning", "removed"])
def test_a_damaged_state_starts_afresh(
    make: Callable[[], SharedState], directory: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = make(), make()
    add(one, 5)
    add(other, 5)
    path = directory / "counts.state"
    if damage == "removed":
        path.unlink()
    elif damage in ("cut", "longer"):
        os.truncate(path, 4 if damage == "cut" else 40)
    else:
        path.write_bytes(bytes(32) if damage == "zeros" else b"x" * 32)
    assert [add(one), add(other), add(one)] == [1, 2, 3]
    assert ("damaged" in caplog.text) == (damage != "removed")


def test_a_byte_is_held_by_one_until_it_is_dropped_or_dies(make: Callable[[], SharedState]) -> None:
    one, other = make(), make()
    add(one)
    add(other)
    held = one.hold(0)
    assert held
    assert other.hold(0) is None
    assert other.hold(1)
    assert in_child(lambda: one.drop(held)) == 0
    assert other.hold(0) is None, "a child has nothing to drop"
    one.drop(held)
    assert other.hold(0)


def test_what_a_dead_process_held_is_free(make: Callable[[], SharedState]) -> None:
    state = make()
    add(state)

    def die() -> None:
        add(state)
        assert state.hold(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert state.hold(0)


def test_without_a_directory_the_words_are_in_memory(make: Callable[[], SharedState], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_state, "store", no_lease(None))
    one, other = make(), make()
    assert [add(one), add(one), add(other)] == [1, 2, 1]
    assert not one.shared
    held = one.hold(0)
    assert held is not None
    assert one.hold(0) is None
    one.drop(held)
    assert one.hold(0) is not None


def test_a_file_that_cannot_be_used_is_tried_again_and_logged_once(
    make: Callable[[], SharedState], directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = directory / "counts.state"
    path.mkdir()
    state = make()
    assert [add(state), add(state)] == [1, 2]
    state._failed.end()
    assert add(state) == 3, "its own words stay while the file cannot be used"
    path.rmdir()
    assert add(state) == 4, "not before a second has passed"
    assert not state.shared
    state._failed.end()
    assert add(state) == 1
    assert state.shared
    assert caplog.text.count(str(path)) == 1


def test_another_slot_changes_no_words_in_memory(make: Callable[[], SharedState], directory: Path) -> None:
    (directory / "counts.state").mkdir()
    state = make()
    assert add(state) == 1
    shared_state.store.hooks.call(Phase.RENEWED)
    assert add(state) == 2
    (directory / "counts.state").rmdir()
    state._failed.end()
    assert add(state) == 1
    shared_state.store.hooks.call(Phase.RENEWED)
    assert not state.shared
    assert add(state) == 2
    assert state.shared


def test_a_full_disk_leaves_the_words_in_memory(make: Callable[[], SharedState], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        state = make()
        assert [add(state), add(state)] == [1, 2]
    state._failed.end()
    assert add(state) == 1
    assert state.shared


def test_a_stopped_editor_costs_a_tenth_of_a_second_once(make: Callable[[], SharedState]) -> None:
    one, other = make(), make()
    add(other)
    with one.editing():
        for _ in range(2):
            with pytest.raises(TimeoutError, match="locked by another process"):
                add(other)
    assert add(other) == 2


def test_the_first_file_that_no_process_has(make: Callable[[], SharedState], directory: Path) -> None:
    one, other = make(), make()
    names = ["0.users", "1.users"]
    assert one.open_first(names)
    one.words[1] = 5
    assert other.open_first(names)
    assert sorted(path.name for path in directory.iterdir()) == names
    third = make()
    assert not third.open_first(names)
    third.words[1] = 6
    one.close()
    assert third.open_first(names)
    assert third.words[1] == 5, "a file is continued"
    (directory / "0.users").unlink()
    assert not make().open_first(["1.users"])
