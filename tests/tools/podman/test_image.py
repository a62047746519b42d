"""What is in the image, and what is not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import app
from tests.benchmarks.test_benchmarks import run as run_benchmark
from tools.podman.engine import attempt, podman
from tools.podman.image import LOCK, distributed_base

INSTALLED = """
import importlib.metadata, json
print(json.dumps(sorted(f"{each.name}=={each.version}" for each in importlib.metadata.distributions(path=["%s"]))))
"""
SITE = "/opt/venv/lib/python{}/site-packages"


def inside(image: str, *command: str) -> str:
    """Run a command in a container of its own, as strictly as a cluster would."""
    strict = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    return podman("run", "--rm", "--pull=never", "--no-healthcheck", "--network=none", *strict, image, *command)


def health_check(image: str) -> list[str]:
    """Give the image's health check, which no shell runs."""
    check: list[str] = json.loads(podman("image", "inspect", "--format", "{{json .HealthCheck.Test}}", image))
    assert check[0] == "CMD"
    return check[1:]


@pytest.fixture(scope="module")
def configuration(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("image", "inspect", image))[0]
    return found


def test_what_it_says_of_itself(configuration: dict[str, Any]) -> None:
    config = configuration["Config"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"] == ["gunicorn", "-c", "gunicorn_conf.py", "app.main:app"], "executed as it is, by no shell"
    assert not config.get("Entrypoint")
    assert set(config["ExposedPorts"]) == {"8000/tcp", "9464/tcp"}
    assert config["Labels"]["org.opencontainers.image.version"] == app.__version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert config["Labels"].keys() >= {f"org.opencontainers.image.{name}" for name in ("title", "description", "revision")}


def test_it_has_what_is_locked_and_the_service_and_nothing_else(image: str) -> None:
    _, python, _ = distributed_base()
    site = SITE.format(python)
    installed = json.loads(inside(image, "python", "-c", INSTALLED % site))
    locked = {line.split(" ")[0].lower().replace("_", "-") for line in LOCK.read_text().splitlines() if "==" in line}
    assert {each.lower().replace("_", "-") for each in installed} <= locked
    names = {each.partition("==")[0].lower().replace("_", "-") for each in installed}
    assert names >= {"gunicorn", "fastapi", "prometheus-client", "asyncpg", "numpy", "orjson", "nvidia-ml-py"}
    assert not names & {"pip", "setuptools", "pytest", "mypy", "ruff", "coverage", "hatchling"}
    assert inside(image, "ls", "-A").split() == ["LICENSE", "__pycache__", "app", "gunicorn_conf.py", "monitoring"]
    for tool in ("gcc", "cc", "make", "git", "curl", "wget"):
        assert attempt("run", "--rm", "--no-healthcheck", "--network=none", image, "sh", "-c", f"command -v {tool}").returncode == 127, tool
    assert inside(image, "sh", "-c", "ls -A /tmp /root/.cache /opt/venv/bin/pip 2>/dev/null || true").strip() in ("", "/tmp:")


def test_everything_is_compiled(image: str) -> None:
    """A read-only root would compile all of it at every start."""
    missing = """
import importlib.util, pathlib
for top in ("/srv/neurectomy", "/opt/venv/lib"):
    for file in pathlib.Path(top).rglob("*.py"):
        if not pathlib.Path(importlib.util.cache_from_source(str(file))).exists():
            print(file)
"""
    assert inside(image, "python", "-c", missing) == ""


def test_its_python_is_the_one_that_the_distributed_base_has(image: str) -> None:
    """The tests' base is not the distributed one: at least the language is the same."""
    assert inside(image, "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == distributed_base()[1]


def test_the_health_check_fails_where_nothing_answers(image: str) -> None:
    asked = attempt("run", "--rm", "--no-healthcheck", "--network=none", image, *health_check(image))
    assert (asked.returncode, "Connection refused" in asked.stderr) == (1, True)


@pytest.mark.proof
def test_its_benchmark(image: str) -> None:
    del image  # it is built
    printed = run_benchmark("image", "--rounds", "1", "--local-base")
    size = re.match(r"image +(\d+) MB, of which its base (\d+)\n", printed)
    assert size, printed
    assert 0 < int(size[2]) < int(size[1])
    rows = re.findall(r"^(\w+) +(\d+\.\d+) s +\d+\.\d+ to \d+\.\d+$", printed, re.MULTILINE)
    assert [name for name, _ in rows] == ["container", "pod"]
    assert all(float(seconds) > 0 for _, seconds in rows)
