"""The unit for systemd: what systemd itself says of it, and its commands run as systemd would run them."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.settings import Settings
from tests.conftest import ROOT, data_directory
from tests.processes import MARKER, PATIENCE_SECONDS, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn

UNIT = ROOT / "systemd" / "neurectomy.service"
INSTALLED = "/opt/neurectomy"


def directives() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(here(UNIT.read_text()))
    return parser["Service"]


def here(text: str) -> str:
    """Put this checkout and this environment where the unit has its own."""
    return (
        text.replace(f"{INSTALLED}/.venv/bin/python", sys.executable)
        .replace(f"{INSTALLED}/.venv/bin", str(Path(sys.executable).parent))
        .replace(INSTALLED, str(ROOT))
    )


def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        assert os.environ.get("CI") != "true", "systemd-analyze is missing: apt-get install systemd"
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    (tmp_path / UNIT.name).write_text(here(UNIT.read_text()))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", UNIT.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_stop_has_more_time_than_the_workers() -> None:
    unit = directives()
    assert int(unit["TimeoutStopSec"]) > Settings.model_fields["graceful_timeout"].default + 10
    assert unit["KillMode"] == "mixed"
    assert unit["OOMPolicy"] == "continue"


def test_it_is_ready_reloads_and_stops_as_systemd_has_it(gunicorn: Gunicorn, tmp_path: Path) -> None:
    unit = directives()
    runtime, notified = tmp_path / unit["RuntimeDirectory"], tmp_path / "notify"
    runtime.mkdir(mode=int(unit["RuntimeDirectoryMode"], 8))
    name, _, value = unit["Environment"].partition("=")
    assert (name, value) == ("DATA_DIR", f"/var/lib/{unit['StateDirectory']}")
    environment = {key: each for key, each in gunicorn.environment.items() if key != "PROMETHEUS_MULTIPROC_DIR"}
    environment |= {
        "DATA_DIR": data_directory(tmp_path / "state"),
        "RUNTIME_DIRECTORY": str(runtime),
        "NOTIFY_SOCKET": str(notified),
        MARKER: gunicorn.marker,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(notified))
        listening.settimeout(PATIENCE_SECONDS)
        subprocess.run(shlex.split(unit["ExecStartPre"]), cwd=unit["WorkingDirectory"], env=environment, check=True)
        with gunicorn.log.open("wb") as log:
            process = subprocess.Popen(
                shlex.split(unit["ExecStart"]), cwd=unit["WorkingDirectory"], env=environment, stdout=log, stderr=log
            )
        gunicorn.processes.append(process)
        assert listening.recv(4096).startswith(b"READY=1")
        wait_until(lambda: ask(gunicorn.port, "GET", "/health/ready").status == 200, "the service is ready")
        gunicorn.compress()
        assert (runtime / "lease.lock").exists()

        before = set(gunicorn.workers(process.pid))
        reload = unit["ExecReload"].replace("$MAINPID", str(process.pid))
        subprocess.run(shlex.split(reload), check=True)
        wait_until(lambda: not before & set(gunicorn.workers(process.pid)) and gunicorn.workers(process.pid), "all workers are new")
        assert gunicorn.requests() == 1

        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_every_path_of_the_page_and_the_unit_is_there() -> None:
    page = (ROOT / "docs" / "plain-host.md").read_text()
    for module in re.findall(r"python -m ([\w.]+)", page + UNIT.read_text()):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists() or (
            ROOT / module.replace(".", "/") / "__main__.py"
        ).exists(), module
    for name in re.findall(r"^(?:#?)([A-Z_]{4,})=", page, re.MULTILINE):
        assert name.lower() in Settings.model_fields, name
