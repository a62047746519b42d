"""The service before eight devices: each is one, however many workers there are, whoever is killed and whatever the driver does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import marked, send, wait_dead, wait_until
from tests.server_process import ask

from .conftest import DEVICES
from .shown import NOTHING, await_shown, expected, of_devices, problems, shown

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn

    from .conftest import Driver


@pytest.mark.usefixtures("preloaded")
@pytest.mark.parametrize("where", ["worker", "exporter"])
def test_eight_devices_and_eight_workers(gunicorn: Gunicorn, all_devices: Driver, where: str) -> None:
    driver = all_devices
    master = gunicorn.start(WEB_CONCURRENCY="8", GPU_IN=where, GPU_SECONDS="0.5", GPU_PIDS_MATCH="1", **driver.environment)
    wanted = expected(range(DEVICES), driver)
    await_shown(gunicorn.scrape, wanted)
    assert problems(gunicorn.scrape()) == {}
    began, before = time.monotonic(), len(driver.polls())
    wait_until(lambda: len(driver.polls()) >= before + 6, "it goes on")
    assert len(set(driver.polls())) == 1, "one process reads"
    assert len(driver.polls()) - before <= (time.monotonic() - began) / 0.5 + 1, "once in each period"

    workers = gunicorn.workers(master)
    loaded = [pid for pid in marked(gunicorn.marker) if "libnvidia-ml" in Path(f"/proc/{pid}/maps").read_text()]
    assert loaded == [driver.polls()[-1]], "nobody else asks the driver for anything"
    assert (loaded[0] in workers) is (where == "worker")
    assert of_devices(ask(gunicorn.port, "GET", "/metrics").body.decode()) == wanted, "workers pass on what the exporter says"

    # Each worker's own share, and nobody else's.
    driver.processes(0, {workers[0]: 111, workers[1]: 222, 999_999_999: 5})
    driver.processes(3, {workers[0]: 333})

    def shares() -> dict[tuple[str, str], set[float]]:
        found: dict[tuple[str, str], set[float]] = {}
        for (gpu, uuid, _), value in shown(gunicorn.scrape()).get("gpu_process_memory_bytes", {}).items():
            found.setdefault((gpu, uuid), set()).add(value)
        return found

    wait_until(lambda: shares() == {("0", "GPU-0"): {111.0, 222.0}, ("3", "GPU-3"): {333.0}}, "the workers' shares")
    driver.processes(3, {})
    wait_until(lambda: shares() == {("0", "GPU-0"): {111.0, 222.0}}, "a share that is given back is gone")

    # Whoever reads is killed, again and again.
    for kill in range(3):
        wait_until(lambda: len(gunicorn.workers(master)) == 8, "eight workers")
        reader = driver.polls()[-1]
        send(reader, 9)
        wait_dead(reader)
        driver.device(0, 5000 + kill, *driver.numbers(0)[1:])
        wanted["ryot_gpu_memory_usage_bytes"]["0", "GPU-0"] = 5000 + kill
        await_shown(gunicorn.scrape, wanted)
        assert driver.polls()[-1] != reader
    assert "GPUs" not in gunicorn.log.read_text()


def test_devices_come_and_go_with_their_reason(gunicorn: Gunicorn, all_devices: Driver) -> None:
    driver = all_devices
    driver.tell("count", 0)
    gunicorn.start(WEB_CONCURRENCY="2", GPU_SECONDS="0.2", **driver.environment)
    wait_until(lambda: problems(gunicorn.scrape()) == {"no_device": 1}, "there is no device")
    assert shown(gunicorn.scrape()).keys() == {"gpu_problems"}
    driver.tell("count", 3)
    await_shown(gunicorn.scrape, expected(range(3), driver))
    assert problems(gunicorn.scrape()) == {}
    for question in range(1, 7):
        driver.device(1, lost=question)
        wanted = expected(range(3), driver)
        for family in wanted.values():
            del family["1", "GPU-1"]
        await_shown(gunicorn.scrape, wanted)
        wait_until(lambda: problems(gunicorn.scrape()) == {"lost": 1}, f"a device that is lost at question {question}")
        driver.device(1)
        await_shown(gunicorn.scrape, expected(range(3), driver))
    # As a device in MIG mode answers.
    driver.device(2, 1002, 80_000, -1, 42, -1)
    wanted = expected(range(3), driver)
    for family in ("gpu_utilization_ratio", "gpu_power_watts"):
        del wanted[family]["2", "GPU-2"]
    await_shown(gunicorn.scrape, wanted)
    wait_until(lambda: problems(gunicorn.scrape()) == {"unsupported": 2}, "two questions that it does not answer")
    driver.tell("count", -1)
    await_shown(gunicorn.scrape, NOTHING)
    wait_until(lambda: problems(gunicorn.scrape()) == {"failed": 1}, "the driver fails as a whole")
    driver.tell("init", 18)
    wait_until(lambda: problems(gunicorn.scrape()) == {"no_driver": 1}, "the driver was updated under the library")
    driver.tell("init", 0)
    driver.tell("count", 2)
    await_shown(gunicorn.scrape, expected(range(2), driver))
    polls = len(driver.polls())
    wait_until(lambda: len(driver.polls()) > polls + 5, "it goes on")
    told = [line for line in gunicorn.log.read_text().splitlines() if "GPUs: " in line]
    assert len(told) == len(set(told)) == 11, "each state is told once"


def test_a_hanging_driver_shows_nothing_and_stops_no_request(gunicorn: Gunicorn, all_devices: Driver) -> None:
    driver = all_devices
    gunicorn.start(WEB_CONCURRENCY="2", GPU_SECONDS="0.2", **driver.environment)
    await_shown(gunicorn.scrape, expected(range(DEVICES), driver))
    driver.tell("slow", 1_000_000)
    wait_until(lambda: problems(gunicorn.scrape()) == {"stuck": 1}, "it hangs")
    assert of_devices(gunicorn.scrape()) == NOTHING
    gunicorn.compress()
    driver.tell("slow", 0)
    await_shown(gunicorn.scrape, expected(range(DEVICES), driver))
    assert problems(gunicorn.scrape()) == {}


def test_without_a_driver_nothing_is_imported(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(WEB_CONCURRENCY="2", GPU_SECONDS="0.2")
    wait_until(lambda: problems(gunicorn.scrape()) == {"no_driver": 1}, "there is no driver")
    assert shown(gunicorn.scrape()).keys() == {"gpu_problems"}
    for worker in gunicorn.workers(master):
        assert "libnvidia-ml" not in Path(f"/proc/{worker}/maps").read_text()
    assert "GPU" not in gunicorn.log.read_text(), "that is no trouble"


def test_it_can_be_switched_off(gunicorn: Gunicorn, all_devices: Driver) -> None:
    gunicorn.start(GPU_SECONDS="0", **all_devices.environment)
    gunicorn.compress()
    assert shown(gunicorn.scrape()) == {}
    assert all_devices.polls() == []
