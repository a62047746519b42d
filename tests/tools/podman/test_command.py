"""`python -m tools.podman`: a pod for whoever wants to look at one, and nothing left of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, built_environment
from tests.server_process import ask
from tools.podman.engine import podman

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "tools.podman", "--local-base"]


@pytest.fixture
def command(image: str) -> Iterator[subprocess.Popen[str]]:
    del image  # it is built
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=built_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.terminate()
            process.terminate()


def test_it_serves_until_it_is_interrupted_and_leaves_nothing(command: subprocess.Popen[str]) -> None:
    assert command.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = command.stdout.readline()
        assert line, f"it ended: {said}"
        said += line
    ports = [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", said)]
    assert [ask(port, "GET", path).status for port, path in zip(ports, ("/health/ready", "/metrics"), strict=True)] == [200, 200]
    found = re.search(r"^starts the pod (\S+)$", said, re.MULTILINE), re.search(r"^volumes +(\S+)$", said, re.MULTILINE)
    pod, folder = (each[1] for each in found if each is not None)
    assert pod in podman("pod", "ls", "--format", "{{.Name}}").split()
    command.send_signal(signal.SIGINT)
    assert command.stdout.readline() == "\n"
    assert command.stdout.readline().startswith("stops as in a cluster, ")
    command.send_signal(signal.SIGINT)
    rest = command.stdout.read()
    assert (command.wait(), rest) == (0, "\nended\n")
    assert pod not in podman("pod", "ls", "--format", "{{.Name}}").split()
    assert podman("ps", "--all", "--quiet", f"--filter=name={pod}") == ""
    assert not Path(folder).exists()
    assert folder not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["/nowhere"], "kubectl kustomize /nowhere failed"), (["k8s/overlays/production"], "is not done here")],
)
def test_what_cannot_be_run_is_said_in_one_line(image: str, arguments: list[str], said: str) -> None:
    del image
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, env=built_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tools.podman: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
