"""Breakers of real processes, which are killed and stopped: one opinion, one probe, each change counted once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT, built_environment
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 8
KILLS = 10 * int(os.environ.get("PROOF_REPEATS", "1"))


class Worker:
    """One process, asked over its pipes."""

    def __init__(self, directory: Path, **policy: float) -> None:
        environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
        arguments = [sys.executable, str(Path(__file__).with_name("worker.py")), "service", *(f"{k}={v}" for k, v in policy.items())]
        self.process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask("ok")

    def say(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, order: str) -> str:
        self.say(order)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(metrics_directory: Path) -> Iterator[Callable[..., list[Worker]]]:
    workers: list[Worker] = []

    def some(count: int, **policy: float) -> list[Worker]:
        made = [Worker(metrics_directory, **policy) for _ in range(count)]
        workers.extend(made)
        return made

    yield some
    for worker in workers:
        with contextlib.suppress(OSError):
            os.kill(worker.process.pid, signal.SIGCONT)
        worker.kill()


def shown(worker: Worker) -> dict[str, float]:
    """The breaker's state and changes as a scrape has them."""
    found: dict[str, float] = {}
    for line in worker.ask("text").split("|"):
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[2].replace('service="service"', "").strip(",}") or "state"
        assert name not in found, line
        found[name] = float(value)
    return found


def changes(worker: Worker) -> dict[str, float]:
    found = {}
    for name, value in shown(worker).items():
        if "from_state" in name:
            old, new = (part.split('"')[1] for part in name.split(",") if "_state" in part)
            found[f"{old}-{new}"] = value
    return found


def test_five_failures_in_all_open_it_for_all(start: Callable[..., list[Worker]]) -> None:
    workers = start(WORKERS, failures=5, open_seconds=3600)
    for worker in workers[4:]:
        worker.say("wait")
    failing = [worker.ask("fail") for worker in workers[:4]]
    failing.append(workers[0].ask("fail"))
    assert all(answer.startswith("failed") for answer in failing)
    opened = float(failing[-1].split()[1])
    refusals = [worker.hear() for worker in workers[4:]] + [worker.ask("ok") for worker in workers[:4]]
    assert all(answer.startswith("refused") for answer in refusals)
    late = max(float(answer.split()[2]) for answer in refusals[:4]) - opened
    print(f"open in the last of the workers that ask all the time after {late * 1000:.1f} ms")
    wait_until(lambda: shown(workers[1]).get("state") == 1.0, "a scrape shows it open")
    assert changes(workers[1]) == {"closed-open": 1}
    for worker in workers[:-1]:
        worker.kill()
    wait_until(lambda: shown(workers[-1]).get("state") == 1.0, "who is left shows it open")
    assert changes(workers[-1]) == {"closed-open": 1}


def test_one_probe_and_a_dead_prober_is_followed(start: Callable[..., list[Worker]]) -> None:
    workers = start(WORKERS, failures=1, open_seconds=0.2)
    workers[0].ask("fail")
    for turn, prober in enumerate(workers[:3]):
        wait_until(lambda prober=prober: "refused" not in prober.ask("begin"), "it may be probed")
        assert all(worker.ask("begin").startswith("refused 1.0") for worker in workers[turn + 1 :])
        prober.kill()
    assert workers[-1].ask("ok") == "done", "the next call of anybody probes, and closes it"
    assert changes(workers[-1]) == {"closed-open": 1, "open-half_open": 1, "half_open-closed": 1}
    assert all(worker.ask("ok") == "done" for worker in workers[3:])


def test_a_stopped_process_stops_no_other(start: Callable[..., list[Worker]], metrics_directory: Path) -> None:
    from monitoring.multiprocess import shared_state
    from monitoring.multiprocess.linux import file_lock

    (worker,) = start(1, failures=2, open_seconds=3600)
    (path,) = metrics_directory.glob("breaker-*.state")
    with path.open("r+b") as file:
        assert file_lock.try_lock(file.fileno(), shared_state._EDIT)
        assert [worker.ask(order) for order in ("ok", "begin")] == ["done", "done"]
        assert all(worker.ask("fail").startswith("failed") for _ in range(3))
    assert worker.ask("fail").startswith("failed")
    worker.ask("fail")
    assert worker.ask("ok").startswith("refused")


def test_each_change_is_counted_once_under_kills(start: Callable[..., list[Worker]]) -> None:
    """The states follow each other in a ring: the counts say whether one was lost or came twice."""
    policy: dict[str, Any] = {"failures": 1, "open_seconds": 0.02}
    workers = start(4, **policy)
    watcher = workers[0]
    for kill in range(KILLS):
        for worker in workers[1:]:
            for _ in range(30):
                worker.say(random.choice(["ok", "fail", "ok"]))
        time.sleep(random.random() * 0.02)
        victim = workers.pop(1)
        victim.kill()
        for worker in workers[1:]:
            for _ in range(30):
                assert worker.hear()
        if kill < KILLS - 1:
            workers += start(1, **policy)
    found = changes(watcher)
    print(found)
    if shown(watcher)["state"] != 0.0:
        wait_until(lambda: watcher.ask("ok") == "done", "it closes")
    found = changes(watcher)
    assert found["closed-open"] >= 1
    assert found["closed-open"] == found["half_open-closed"]
    assert found["open-half_open"] == found["half_open-closed"] + found.get("half_open-open", 0)


def test_killed_at_any_moment_of_a_change_it_is_counted_once(metrics_directory: Path) -> None:
    environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    command = [sys.executable, "-m", "tests.breaker.mortals"]
    output = subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["-9"] * (len(lines) - 1) + ["0"], "each died at its moment, and the last had none left"
    assert {line[1] for line in lines} == {"0", "1"}, "some before the change was made, some after"
    assert all(line[2:] == ["1", "8.0"] for line in lines), lines
