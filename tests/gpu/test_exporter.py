"""An exporter that reads the devices itself: beside gunicorn, over USR2, and alone, whatever workers say and the driver does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.processes import command_line, marked, send, wait_dead, wait_until
from tests.server_process import serving

from .conftest import DEVICES
from .shown import FAMILIES, NOTHING, await_shown, expected, of_devices, problems, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.server_process import Served

    from .conftest import Driver

ALONE = ["-m", "monitoring.exporter"]
WORKER = """
import sys
import monitoring.multiprocess as multiprocess
multiprocess.install()
from monitoring import metrics
multiprocess.acquire()
for number in (0, 99):
    metrics.gpu_power_watts.labels(str(number), f"GPU-{number}").set(-1)
metrics.gpu_problems.labels("no_driver").set(1)
metrics.gpu_process_memory_bytes.labels("0", "GPU-0", "s0").set(7)
print("shown", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def alone(environment: dict[str, str], metrics_directory: Path, port: int) -> dict[str, str]:
    bind = {"METRICS_BIND": f"127.0.0.1:{port}", "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    return environment | bind | {"GPU_IN": "exporter", "GPU_SECONDS": "0.2"}


@pytest.fixture
def worker(alone: dict[str, str]) -> Iterator[None]:
    """A living process of the catalogue, whose series of devices are not true."""
    process = subprocess.Popen([sys.executable, "-c", WORKER], env=alone, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"shown\n"
        yield
        process.kill()


def text(served: Served, path: str = "/metrics", accept: str = "text/plain") -> str:
    answer = served.ask("GET", path, headers={"Accept": accept})
    assert answer.status == 200, answer
    return answer.body.decode()


@pytest.mark.usefixtures("worker")
def test_its_reading_replaces_that_of_workers(alone: dict[str, str], all_devices: Driver, port: int, tmp_path: Path) -> None:
    wanted = expected(range(DEVICES), all_devices)
    with serving(ALONE, port, "/healthz", alone | all_devices.environment, tmp_path / "log") as served:
        await_shown(lambda: text(served), wanted)
        found = text(served)
        assert problems(found) == {}
        assert shown(found)["gpu_process_memory_bytes"] == {("0", "GPU-0", "s0"): 7.0}, "that is still the worker's to say"
        whole = text(served, accept="application/openmetrics-text")  # its heads have the families' own names
        assert of_devices(whole) == wanted
        names = [line.split()[2] for line in whole.splitlines() if line.startswith("# TYPE neurectomy_")]
        assert {f"neurectomy_{family}" for family in FAMILIES} <= set(names)
        assert names == sorted(names)
        picked = text(served, "/metrics?name[]=neurectomy_gpu_power_watts", "application/openmetrics-text").splitlines()
        assert picked == [
            "# HELP neurectomy_gpu_power_watts Power that the device draws.",
            "# TYPE neurectomy_gpu_power_watts gauge",
            *(f'neurectomy_gpu_power_watts{{gpu="{n}",uuid="GPU-{n}"}} {250 + n / 1000}' for n in range(DEVICES)),
            "# EOF",
        ]


def test_a_driver_that_hangs_delays_no_scrape_and_no_end(alone: dict[str, str], all_devices: Driver, port: int, tmp_path: Path) -> None:
    driver, wanted = all_devices, expected(range(DEVICES), all_devices)
    with serving(ALONE, port, "/healthz", alone | driver.environment, tmp_path / "log") as served:
        await_shown(lambda: text(served), wanted)
        driver.tell("slow", 1_000_000)  # more than anybody here waits for an answer
        before = len(driver.polls())
        wait_until(lambda: len(driver.polls()) > before, "it hangs")
        assert of_devices(text(served)) in (wanted, NOTHING), "a scrape is answered"
        wait_until(lambda: problems(text(served)) == {"stuck": 1}, "it is stuck")
        assert of_devices(text(served)) == NOTHING
        driver.tell("slow", 0)
        await_shown(lambda: text(served), wanted)
        assert problems(text(served)) == {}
        assert served.log.read_text().count("GPUs: ") == 1
    driver.tell("slow", 1_000_000)
    with serving(ALONE, port, "/healthz", alone | driver.environment | {"GPU_SECONDS": "60"}, tmp_path / "log") as served:
        assert of_devices(text(served)) == NOTHING, "it hangs from the beginning, and a scrape does not wait for long"
        served.process.terminate()
        assert served.process.wait(60) == 0


def test_an_unintelligible_driver_is_logged_once(alone: dict[str, str], all_devices: Driver, port: int, tmp_path: Path) -> None:
    driver = all_devices
    (driver.folder / "d1").write_bytes(b"\xff\xfe 1 2 3 4 5 0\n")
    with serving(ALONE, port, "/healthz", alone | driver.environment, tmp_path / "log") as served:
        wait_until(lambda: problems(text(served)) == {"failed": 1}, "it is not understood")
        before = len(driver.polls())
        wait_until(lambda: len(driver.polls()) > before + 3, "it is asked again")
        driver.device(1)
        await_shown(lambda: text(served), expected(range(DEVICES), driver))
    assert served.log.read_text().count("\n") == 1, served.log.read_text()


def test_without_a_driver_it_says_so_and_serves_on(alone: dict[str, str], metrics_directory: Path, port: int, tmp_path: Path) -> None:
    alone["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory / "later")
    with serving(ALONE, port, "/healthz", alone, tmp_path / "log") as served:
        assert served.ask("GET", "/metrics").status == 503
        (metrics_directory / "later").mkdir()
        wait_until(lambda: problems(text(served)) == {"no_driver": 1}, "there is no driver")
        assert of_devices(text(served)) == NOTHING
        assert "libnvidia-ml" not in Path(f"/proc/{served.process.pid}/maps").read_text()
    assert served.log.read_text() == ""


def test_it_reads_nothing_by_default(alone: dict[str, str], all_devices: Driver, port: int, tmp_path: Path) -> None:
    for change in ({"GPU_IN": "worker"}, {"GPU_IN": ""}, {"GPU_SECONDS": "0"}):
        with serving(ALONE, port, "/metrics", alone | all_devices.environment | change, tmp_path / "log") as served:
            assert "gpu" not in text(served)
    assert all_devices.polls() == []


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("GPU_IN", "sidecar", "worker or exporter"),
        ("GPU_SECONDS", "-1", "seconds from 0 (GPUs are not read) to 3600"),
        ("GPU_SECONDS", "nan", "seconds from 0 (GPUs are not read) to 3600"),
    ],
)
def test_a_bad_value_is_one_line(alone: dict[str, str], name: str, value: str, allowed: str) -> None:
    ended = subprocess.run(
        [sys.executable, *ALONE], env=alone | {name: value}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == f"monitoring.exporter: {name}={value!r} is not allowed: it must be {allowed}\n"


def test_killed_and_over_usr2_each_answer_has_each_device_once(
    alone: dict[str, str], all_devices: Driver, metrics_directory: Path, port: int, tmp_path: Path
) -> None:
    driver, wanted = all_devices, expected(range(DEVICES), all_devices)
    master = [str(ROOT / "tests" / "exporter" / "master_process.py"), f"127.0.0.1:{port}", str(metrics_directory)]
    with serving(master, port, "/healthz", alone | driver.environment, tmp_path / "log") as served:

        def exporters() -> list[int]:
            return [pid for pid in marked(served.marker) if command_line(pid)[1:3] == ALONE]

        await_shown(lambda: text(served), wanted)
        (first,) = exporters()
        send(first, signal.SIGKILL)
        wait_dead(first)
        driver.device(0, 5000, *driver.numbers(0)[1:])
        wanted["ryot_gpu_memory_usage_bytes"]["0", "GPU-0"] = 5000
        await_shown(lambda: text(served), wanted)
        (second,) = exporters()
        assert set(driver.polls()) == {first, second}

        send(served.process.pid, signal.SIGUSR2)
        wait_until(
            lambda: set(exporters()) - {second} and driver.polls()[-1] not in {first, second}, "the exporter of the new master reads"
        )
        (third,) = set(exporters()) - {second}
        for _ in range(20):
            assert of_devices(text(served)) in (wanted, NOTHING), "one of them answers, with what it has read itself"
        send(served.process.pid, signal.SIGTERM)
        wait_dead(second)
        await_shown(lambda: text(served), wanted)
        before = len(driver.polls())
        wait_until(lambda: len(driver.polls()) > before + 3, "it goes on")
        assert set(driver.polls()[before:]) == {third}
