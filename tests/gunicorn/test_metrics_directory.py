"""Where the metrics directory may lie, and what becomes of a service whose directory is taken away, under the real gunicorn."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.processes import take_away, wait_dead, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn


NAMES = {"é": os.fsencode("é"), "no text": b"\xe9 \n", "long": b"x" * 200}
LOCALES = {"utf-8": {}, "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}}
SAMPLED = {("utf-8", "é"), ("ascii", "no text")}


@pytest.mark.parametrize(
    ("locale", "name"),
    [
        pytest.param(locale, name, id=f"{spoken}-{written}", marks=() if (spoken, written) in SAMPLED else pytest.mark.proof)
        for spoken, locale in LOCALES.items()
        for written, name in NAMES.items()
    ],
)
def test_any_name(gunicorn: Gunicorn, tmp_path: Path, name: bytes, locale: dict[str, str]) -> None:
    del gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"]
    directory = tmp_path / os.fsdecode(name)
    environ = {"RUNTIME_DIRECTORY": str(directory), **locale}
    assert "not found. Create the directory" in gunicorn.fail(**environ)
    directory.mkdir(mode=0o700)
    gunicorn.start(**environ)
    gunicorn.compress()
    assert gunicorn.requests() == 1
    assert ask(gunicorn.port, "GET", "/metrics").status == 200
    wait_until((directory / "exporter.sock").exists, "the exporter's socket for workers")
    assert (directory / "counter_s0.db").exists()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system that executes nothing."""
    path = tmp_path / "mounted"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,nodev,nosuid,mode=0700", "tmpfs", str(path)], check=False).returncode:
        assert os.environ.get("CI") != "true", "CI has to mount a tmpfs: run it as root"
        pytest.skip("cannot mount a tmpfs here: needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_mounted_noexec_it_works_and_read_only_it_is_refused(gunicorn: Gunicorn, mounted: Path) -> None:
    gunicorn.start(PROMETHEUS_MULTIPROC_DIR=str(mounted))
    gunicorn.compress()
    assert gunicorn.requests() == 1
    gunicorn.end()
    command = ["mount", "-o", "remount,ro", str(mounted)]
    # The kernel closes files of the dead a moment after they are gone, and until then the place is busy.
    wait_until(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0, "nothing writes there any more")
    before = sorted(mounted.iterdir())
    assert "the directory is not writable for user" in gunicorn.fail(PROMETHEUS_MULTIPROC_DIR=str(mounted))
    assert sorted(mounted.iterdir()) == before


def test_a_directory_that_is_taken_away_while_serving(gunicorn: Gunicorn, metrics_directory: Path) -> None:
    directory = metrics_directory / "metrics"
    directory.mkdir(mode=0o700)
    master = gunicorn.start(PROMETHEUS_MULTIPROC_DIR=str(directory))
    gunicorn.compress()
    first = gunicorn.workers(master)
    take_away(directory)
    for _ in range(10):
        gunicorn.compress()
    for port in (gunicorn.port, gunicorn.metrics_port):
        answer = ask(port, "GET", "/metrics")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert str(directory).encode() in answer.body
    wait_until(lambda: gunicorn.log.read_text().count("removed while this process used it") == 2, "each worker says so once")
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: f"no slot in the metrics directory {directory}" in gunicorn.log.read_text(), "the worker that follows it says so")
    os.kill(master, signal.SIGTTOU)
    wait_dead(*first)
    for _ in range(10):
        gunicorn.compress()  # by a worker that has never had a directory
    directory.mkdir(mode=0o700)

    def counts() -> bool:
        gunicorn.compress()
        answer = ask(gunicorn.metrics_port, "GET", "/metrics")
        return answer.status == 200 and b"multiproc_workers 1.0" in answer.body

    wait_until(counts, "it uses the new directory")

    def each_counts() -> bool:
        before = gunicorn.requests()
        for _ in range(10):
            gunicorn.compress()
        return gunicorn.requests() == before + 10

    wait_until(each_counts, "it does not go on with the series of what was refused for a moment")
    os.kill(master, signal.SIGTERM)
    assert gunicorn.processes[0].wait(60) == 0
    assert "Traceback" not in gunicorn.log.read_text()
