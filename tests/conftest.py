"""Fixtures that every test may use: private ports, directories and environments.

Nothing of the caller's environment that could change a server reaches a test: the environment
is built from nothing, never filtered.
"""

from __future__ import annotations

import atexit
import functools
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.gunicorn_service import Gunicorn

# What tests and their tools may inherit; every other variable goes before anything of ours is imported, in-process tests included.
_INHERITED = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "USER", "CI", "PROOF_REPEATS"})
_TOOLS = ("PIP_", "PYTEST_", "PYTHON", "COV_", "COVERAGE_", "HYPOTHESIS_", "NPM_CONFIG_", "npm_config_", "NODE_EXTRA_CA_CERTS")
for _name in list(os.environ):
    if _name not in _INHERITED and not _name.startswith(_TOOLS):
        del os.environ[_name]

ROOT = Path(__file__).resolve().parent.parent

# Below the kernel's ephemeral range: a port from bind(0) may be taken by any outgoing connection
# of a test beside us between our close and the server's bind.
PORTS = range(12_000, 32_000)


def unused_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens at the moment."""
    choice = random.SystemRandom()
    for _ in range(200):
        port = choice.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    message = "200 random ports of 127.0.0.1 were all in use"
    raise RuntimeError(message)


def built_environment() -> dict[str, str]:
    """What a process of ours needs to start, and nothing else."""
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin")),
        "HOME": tempfile.gettempdir(),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "REQUIRE_API_KEY": "0",
        "PYTHONDONTWRITEBYTECODE": "" if os.access(ROOT, os.W_OK) else "1",
    }


def data_directory(folder: Path) -> str:
    """Make `folder` a DATA_DIR whose database is ready, so that not every server of the tests has to make it first."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(_database(), folder / "neurectomy.db")
    return str(folder)


HAS_GPU = Path("/dev/nvidiactl").exists()
#: Whether this is the long run, `make proof`.
PROVES = "PROOF_REPEATS" in os.environ


def pytest_configure() -> None:
    """Refuse to test what is no longer there: Python takes the compiled modules whatever the sources say."""
    for file in (ROOT / "monitoring" / "http").glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
        source = file.with_name(f"{file.name.partition('.')[0]}.py")
        if source.exists() and source.stat().st_mtime > file.stat().st_mtime:
            raise pytest.UsageError(f"{source} was changed after it was compiled: run `make setup`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs a device that is not here, and what only the long run does: that is no skip, and the summary says so."""
    left_out = {marker for marker, here in (("gpu", HAS_GPU), ("proof", PROVES)) if not here}
    chosen = [item for item in items if not left_out & {marker.name for marker in item.iter_markers()}]
    if len(chosen) < len(items):
        kept = set(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = chosen


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule:
    return Schedule(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what is skipped where CI runs: there everything has to be."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, and with CI=true nothing may be: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run."""
    if not HAS_GPU:
        terminalreporter.write_line("no NVIDIA device here: tests with the marker `gpu` are deselected (tests/gpu/test_hardware.py)")
    if not PROVES:
        terminalreporter.write_line("tests with the marker `proof` are deselected: `make proof` runs them")


@functools.cache
def _database() -> Path:
    folder = tempfile.mkdtemp(prefix="neurectomy-test-data-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "app.migrate"]
    subprocess.run(command, cwd=ROOT, env=built_environment() | {"DATA_DIR": folder}, check=True, capture_output=True)
    return Path(folder) / "neurectomy.db"


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a new free port at every call."""
    return unused_port


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give a built environment that the test may add to."""
    return built_environment() | {"DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def metrics_directory(tmp_path: Path) -> Iterator[Path]:
    """Give a private, empty, 0700 directory, in memory where the machine has /dev/shm."""
    shared_memory = Path("/dev/shm")
    base = shared_memory if os.access(shared_memory, os.W_OK) else tmp_path
    path = Path(tempfile.mkdtemp(prefix="neurectomy-test-", dir=base))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def gunicorn(environment: dict[str, str], metrics_directory: Path, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Gunicorn]:
    """Give gunicorn with the project's configuration, on private ports; what it started is ended."""
    from tests.gunicorn_service import Gunicorn

    port, metrics_port = free_port(), free_port()
    data_directory(tmp_path / "data")
    environment |= {
        "BIND": f"127.0.0.1:{port}",
        "METRICS_BIND": f"127.0.0.1:{metrics_port}",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory),
        "WEB_CONCURRENCY": "2",
    }
    made = Gunicorn(environment, tmp_path, port, metrics_port)
    yield made
    made.end()
    print(made.log.read_text() if made.log.exists() else "")


@pytest.fixture(params=[pytest.param("1", id="preload"), pytest.param("0", id="no preload", marks=pytest.mark.proof)])
def preloaded(request: pytest.FixtureRequest, gunicorn: Gunicorn) -> None:
    """For tests that start many workers: preloaded they cost a fork each. `make proof` also lets each one import the application."""
    gunicorn.environment["PRELOAD"] = request.param
