"""A breaker's file that is damaged, replaced or cannot be had; and processes that die half way through a change."""

from __future__ import annotations

import contextlib
import os
import resource
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from monitoring import metrics
from monitoring.breaker import CLOSED, HALF_OPEN, OPEN, CircuitOpenError, state_layout

from .conftest import SECOND, DownError, fail, refused, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Service

    Make = Callable[..., Service]


def rebuilt(service: Service) -> float:
    return metrics.circuit_breaker_rebuilt.labels(service.name)._value.get()


def write(at: int, value: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(8 * at)
            file.write(value.to_bytes(8, "little"))

    return damage


def replace(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return damage


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut to nothing": lambda path: os.truncate(path, 0),
    "cut to a page": lambda path: os.truncate(path, 4096),
    "longer": lambda path: os.truncate(path, state_layout.SIZE + 1),
    "zeros": lambda path: path.write_bytes(bytes(state_layout.SIZE)),
    "garbage": lambda path: path.write_bytes(os.urandom(state_layout.SIZE)),
    "no breaker's": write(state_layout.MAGIC_AT, 7),
    "a state that is none": write(state_layout.CURRENT, 7),
    "no generation": write(state_layout.CURRENT, 1),
    "a kind that is none": write(state_layout.KIND, 4),
    "more regions than there are": write(state_layout.REGIONS_USED, 1 << 40),
    "told by a slot that is none": write(state_layout.ADDER, 1 << 40),
    "more counted than there were": write(state_layout.COUNTED, 1000),
    "replaced by garbage": replace(os.urandom(state_layout.SIZE)),
    "replaced by less": replace(b"x"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_is_rebuilt_closed_logged_and_counted(make: Make, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    service = make(failures=2)
    one, other = service.worker(), service.worker()
    fail(one, 2)
    assert refused(other) > 0
    DAMAGE[damage](service.file)
    assert one.state == other.state == CLOSED
    if damage != "cut to nothing":
        assert rebuilt(service) == 1
        assert str(service.file) in caplog.text
    succeed(one)
    fail(one)
    fail(other)
    assert one.state == other.state == OPEN, "both see one file again"
    assert service.transitions()["closed-open"] == 2


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_call_notices_too(make: Make, damage: str) -> None:
    service = make(failures=2)
    one, other = service.worker(), service.worker()
    succeed(one)
    succeed(other)
    DAMAGE[damage](service.file)
    for breaker in (one, other, one, other):
        with contextlib.suppress(CircuitOpenError):
            fail(breaker)
    assert one.state == other.state == OPEN


def test_calls_from_before_the_damage_do_not_open_the_breaker(make: Make) -> None:
    service = make(failures=2)
    one, other = service.worker(), service.worker()
    succeed(one)
    late = [other.call(), other.call()]
    for call in late:
        call.__enter__()
    replace(os.urandom(state_layout.SIZE))(service.file)
    assert one.state == CLOSED
    for call in late:
        call.end(DownError())
    assert one.state == CLOSED
    fail(one, 2)
    assert one.state == OPEN


def test_an_impossible_retry_time_is_over(make: Make) -> None:
    service = make(failures=1, open_seconds=30)
    one = service.worker()
    fail(one)
    write(state_layout.RETRY_AT, service.now + 10**6 * SECOND)(service.file)
    succeed(one)
    assert one.state == CLOSED


def test_a_file_that_is_removed_is_made_again(make: Make) -> None:
    service = make(failures=2)
    one, other = service.worker(), service.worker()
    fail(one, 2)
    service.file.unlink()
    assert one.state == other.state == CLOSED
    fail(one)
    fail(other)
    assert one.state == other.state == OPEN


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_without_a_usable_file_each_process_is_alone(make: Make, kind: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    service = make(failures=1)
    one, other = service.worker(), service.worker()
    assert one.state == CLOSED
    path = service.file
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    assert one.state == other.state == CLOSED
    fail(one)
    assert refused(one) > 0
    succeed(other)
    for breaker in (one, other):
        breaker._shared._failed.end()
    assert one.state == OPEN, "what it knows by itself stays while it looks in vain"
    assert other.state == CLOSED
    assert str(path) in caplog.text
    assert not (tmp_path / "elsewhere").exists()
    (path.rmdir if kind == "directory" else path.unlink)()
    for breaker in (one, other):
        breaker._shared._failed.end()
        assert breaker.state == CLOSED
    fail(one)
    assert other.state == OPEN, "they share a file again"


class Death(BaseException):
    """The process is killed."""


class Mortal:
    """Words whose writer dies before its n-th write."""

    def __init__(self, content: Any, writes: int) -> None:
        self.content, self.left = content, writes

    def __getitem__(self, at: int) -> int:
        return int(self.content[at])

    def __setitem__(self, at: int, value: int) -> None:
        if not self.left:
            raise Death
        self.left -= 1
        self.content[at] = value


def test_a_killed_change_is_made_and_counted_or_not_made() -> None:
    for writes in range(20):
        content = memoryview(bytearray(state_layout.SIZE)).cast("q")
        content[: state_layout.HEADER_WORDS] = array("q", state_layout.fresh(5))
        state_layout.change(content, OPEN, 100)
        try:
            state_layout.change(Mortal(content, writes), HALF_OPEN, 0)  # type: ignore[arg-type]
            done = True
        except Death:
            done = False
        assert state_layout.valid(content)
        state_layout.settle(content)
        made = state_layout.state_of(content[state_layout.CURRENT]) == HALF_OPEN
        assert made or not done
        assert content[state_layout.COUNTS + 1] == made
        if not made:
            state_layout.change(content, HALF_OPEN, 0)
        state_layout.change(content, CLOSED, 0)
        state_layout.settle(content)
        assert content[state_layout.COUNTS : state_layout.COUNTS + 4].tolist() == [1, 1, 0, 1]
    assert done


def test_the_next_process_counts_a_change_of_a_killed_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make(failures=1, open_seconds=1)
    one, other = service.worker(), service.worker()

    def die(*_: Any) -> None:
        raise Death

    assert one.state == CLOSED
    monkeypatch.setattr(one, "_publish", die)
    call = one.call()
    call.__enter__()
    with pytest.raises(Death):
        call.end(ValueError())
    assert service.transitions() == {}
    assert refused(other) > 0
    assert service.transitions() == {"closed-open": 1}
    assert refused(other) > 0
    assert service.transitions() == {"closed-open": 1}


@contextlib.contextmanager
def descriptors(left: int) -> Iterator[None]:
    """This process has so many descriptors left."""
    lowest = os.dup(0)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_process_without_descriptors_keeps_its_state(make: Make) -> None:
    service = make(failures=2, open_seconds=1)
    one, other = service.worker(), service.worker()
    assert one.state == other.state == CLOSED
    with descriptors(0):
        succeed(one)
        fail(one)
        assert one.state == CLOSED
    fail(one, 2)
    with descriptors(0):
        assert refused(one) == 1.0
        assert one.state == OPEN
    service.now += SECOND
    with descriptors(1):
        assert refused(one) == 1.0, "it cannot take the right to probe"
    succeed(one)
    assert other.state == CLOSED
    assert service.transitions() == {"closed-open": 1, "open-half_open": 1, "half_open-closed": 1}


def test_a_note_of_a_completed_addition_is_removed(make: Make) -> None:
    service = make(failures=1)
    fail(service.worker())
    write(state_layout.ADDER, state_layout.adder(3, 0))(service.file)
    write(state_layout.ADDED_TO, 1)(service.file)
    other = service.worker()
    assert other.state == OPEN
    assert other._shared.words[state_layout.ADDER] == 0
    assert service.transitions() == {"closed-open": 1}


def test_a_prober_that_died_is_followed(make: Make) -> None:
    service = make(failures=1, open_seconds=1)
    one, other = service.worker(), service.worker()
    fail(one)
    service.now += SECOND
    call = one.call()
    call.__enter__()
    assert refused(other) == 1.0
    assert call._held
    one._shared.drop(call._held)  # what the kernel does
    one._shared.close()
    succeed(other)
    assert service.transitions() == {"closed-open": 1, "open-half_open": 1, "half_open-closed": 1}
