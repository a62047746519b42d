"""One process for each role: taken over when its holder is killed, never held twice, never inherited or lost by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.storage import slot_lease
from tests.multiprocess.programs import Program, Programs
from tests.multiprocess.simulated_workers import samples
from tests.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

CANDIDATE = """
multiprocess.install()
from monitoring.multiprocess.worker.election import Election
election = Election("warden")
assert not election.try_hold(), "elected without a slot"
multiprocess.acquire()
while not election.try_hold(): time.sleep(0.02)
print("elected", flush=True)
"""
STAY = "sys.stdin.read()\n"


def elected(programs: list[Program]) -> list[Program]:
    return [program for program in programs if "elected" in program.lines]


def test_a_killed_holder_is_followed_by_one_other(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    with Programs(metrics_directory, environment) as programs:
        for _ in range(3):
            programs.start(CANDIDATE + STAY)
        killed: list[Program] = []
        for _ in range(10):
            wait_until(lambda: len(elected(programs.started)) == len(killed) + 1, "a successor is elected")
            wait_until(lambda: len(slot_lease.living_slots(metrics_directory)[1]) == 3, "three candidates live")
            wait_until(lambda: samples(view).get(("multiproc_elected", (("role", "warden"),))) == 1, "the role is shown as held")
            assert len(elected(programs.started)) == len(killed) + 1
            holder = next(program for program in elected(programs.started) if program not in killed)
            programs.start(CANDIDATE + STAY)
            holder.kill()
            killed.append(holder)
        wait_until(lambda: len(elected(programs.started)) == 11, "the last successor is elected")


def test_a_role_that_nobody_wants_is_shown_as_vacant(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    with Programs(metrics_directory, environment) as programs:
        holder = programs.start(CANDIDATE + STAY)
        holder.wait_for("elected")
        beaten = programs.start(
            """
multiprocess.install(); multiprocess.acquire()
from monitoring.multiprocess.worker.election import Election
election = Election("warden"); print(election.try_hold(), election.vacant(), flush=True)
sys.stdin.readline(); print("vacant", election.vacant(), flush=True)
print("now", election.try_hold(), election.held, Election("warden").try_hold(), Election("other").try_hold(), flush=True)
sys.stdin.readline(); election.release(); print("released", election.held, election.vacant(), flush=True)
sys.stdin.read()
"""
        )
        beaten.wait_for("False False")
        key = ("multiproc_elected", (("role", "warden"),))
        assert samples(view)[key] == 1
        holder.kill()
        assert samples(view)[key] == 0
        beaten.tell()
        beaten.wait_for("vacant True")
        beaten.wait_for("now True True False True")
        assert samples(view)[key] == 1
        beaten.tell()
        beaten.wait_for("released False True")
        assert samples(view)[key] == 0


def test_no_code_loses_a_role_and_no_child_inherits_it(metrics_directory: Path, environment: dict[str, str]) -> None:
    with Programs(metrics_directory, environment) as programs:
        holder = programs.start(
            CANDIDATE
            + """
pid = os.fork()
if not pid:
    multiprocess.acquire()
    print("child", election.held, election.try_hold(), flush=True)
    election.release()
    sys.stdin.read()
os.closerange(3, 65536)
print("closed", election.held, flush=True)
sys.stdin.read()
"""
        )
        holder.wait_for("child False False")
        holder.wait_for("closed True")
        rival = programs.start(CANDIDATE + STAY)
        wait_until(lambda: len(slot_lease.living_slots(metrics_directory)[1]) == 3, "the rival has its slot")
        assert "elected" not in rival.lines
        holder.kill()  # its forked child lives on, and must not keep the role
        rival.wait_for("elected")


def test_a_role_keeps_no_run_alive(metrics_directory: Path, environment: dict[str, str]) -> None:
    """The byte of a role lies above everything that a cold start looks at: held alone, it keeps nobody's counters."""
    program = """
multiprocess.install()
from monitoring.multiprocess.storage import lock_file, run
from monitoring.multiprocess.worker.election import Election
election = Election("any")
assert election._byte >= lock_file.ROLES > lock_file.START
assert Election("any")._byte == election._byte != Election("another")._byte
print("done")
"""
    with Programs(metrics_directory, environment) as programs:
        programs.start(program).wait_for("done")


def test_starts_are_counted_once_a_slot(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = """
multiprocess.install(); multiprocess.acquire(); multiprocess.acquire()
if not os.fork():
    multiprocess.acquire()
    os._exit(0)
os.wait()
print("up", flush=True); sys.stdin.read()
"""
    with Programs(metrics_directory, environment) as programs:
        first = programs.start(program)
        first.wait_for("up")
        assert samples(view)["multiproc_workers_started_total", ()] == 2
        for number in range(1, 4):
            programs.start(program).wait_for("up")
            programs.started[-1].kill()
            assert samples(view)["multiproc_workers_started_total", ()] == 2 + 2 * number
