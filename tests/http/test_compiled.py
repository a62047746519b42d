"""What runs for every request is compiled where it can be, is left interpreted where it cannot, and is the same both ways."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from typing import TYPE_CHECKING

import pytest

from monitoring.http import compiled
from monitoring.metrics import MetricsMiddleware
from tests.conftest import ROOT, built_environment
from tests.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

MISSING = "monitoring.http is not compiled here: install gcc and Python's headers (Debian: gcc libc6-dev python3-dev), then `make setup`"
IMPORTED = "import sys; sys.path.insert(0, sys.argv[1]); import monitoring.http as http; print(http.__file__, http.compiled())"

needs_compiler = pytest.mark.skipif(not compiled(), reason=MISSING)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout in which nothing is compiled."""
    copy = tmp_path / "tree"
    copy.mkdir()
    unwanted = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("app", "monitoring", "tests", "tools"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    for file in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / file, copy / file)
    return copy


def execute(tree: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = built_environment() | {"PYTHONPATH": str(tree)} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True, timeout=5 * PATIENCE_SECONDS, check=False
    )


def build(tree: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return execute(tree, "-m", "hatchling", "build", "-t", "wheel", "-d", "made", **variables)


def imported_from(wheel: Path, folder: Path) -> str:
    """Say what a wheel's package is once it is unpacked."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(folder)],
        cwd=folder,
        env=built_environment() | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    file, found = done.stdout.split()
    assert file.startswith(str(folder))
    return found


@needs_compiler
def test_the_tests_of_http_metrics_pass_interpreted_too(tree: Path, request: pytest.FixtureRequest) -> None:
    """The others run what is compiled, of which coverage sees nothing: it takes what this run finds."""
    assert "interpreted" in execute(tree, "-m", "monitoring.http").stdout
    measured = ["--cov=monitoring/http", "--cov-report="] if request.config.getoption("cov_source", None) else []
    tests = ["tests/http", "--ignore=tests/http/test_compiled.py"]
    done = execute(tree, "-m", "pytest", "-q", "-n", "0", *measured, *tests, COVERAGE_FILE=str(ROOT / ".coverage.interpreted"))
    assert done.returncode == 0, done.stdout[-4000:]
    assert not list(tree.rglob("*.so"))


@needs_compiler
def test_a_wheel_has_what_was_compiled(tree: Path) -> None:
    done = build(tree, NEURECTOMY_COMPILE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tree / "made").glob("*.whl")
    assert not wheel.name.endswith("-none-any.whl")
    assert imported_from(wheel, tree / "unpacked") == "True"


@pytest.mark.parametrize(
    "variables", [{"NEURECTOMY_COMPILE": "0"}, pytest.param({"CC": "/nowhere/cc"}, marks=pytest.mark.proof)], ids=["left", "no compiler"]
)
def test_a_wheel_without(tree: Path, variables: dict[str, str]) -> None:
    done = build(tree, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("is not compiled" in done.stdout + done.stderr) == ("CC" in variables)
    (wheel,) = (tree / "made").glob("*-none-any.whl")
    assert imported_from(wheel, tree / "unpacked") == "False"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NEURECTOMY_COMPILE": "1", "CC": "/nowhere/cc"}, "NEURECTOMY_COMPILE=1, but monitoring/http could not be compiled"),
        ({"NEURECTOMY_COMPILE": "yes"}, "NEURECTOMY_COMPILE='yes': use 0 (never compile), 1 (fail if it fails) or nothing"),
    ],
)
def test_a_wheel_that_cannot_be(tree: Path, variables: dict[str, str], message: str) -> None:
    done = build(tree, **variables)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


def test_servers_recognise_the_application() -> None:
    """Uvicorn takes what is no coroutine function for an application of ASGI 2."""
    assert inspect.iscoroutinefunction(MetricsMiddleware(None).__call__)  # type: ignore[arg-type]


def test_what_is_no_longer_what_was_compiled_is_not_tested(tree: Path) -> None:
    old = tree / "monitoring" / "http" / f"request_metrics{sysconfig.get_config_var('EXT_SUFFIX')}"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    done = execute(tree, "-m", "pytest", "-q", "-n", "0", "tests/catalogue/test_families.py")
    assert done.returncode != 0
    assert "was changed after it was compiled: run `make setup`" in done.stderr
