"""Commands are no workers: whatever PROMETHEUS_MULTIPROC_DIR says, they leave nothing of theirs among a service's files, nor elsewhere."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

from tests.conftest import ROOT

COMMANDS = ("app.settings", "app.vault create", "app.migrate", "app.keys create --user me", "app.vault rotate", "tools.load --requests 1")


@pytest.mark.parametrize(
    ("empty", "variable"),
    [
        pytest.param(True, "PROMETHEUS_MULTIPROC_DIR", id="empty-PROMETHEUS_MULTIPROC_DIR", marks=pytest.mark.proof),
        pytest.param(True, "prometheus_multiproc_dir", id="empty-prometheus_multiproc_dir"),
        pytest.param(False, "PROMETHEUS_MULTIPROC_DIR", id="a directory-PROMETHEUS_MULTIPROC_DIR"),
        pytest.param(False, "prometheus_multiproc_dir", id="a directory-prometheus_multiproc_dir", marks=pytest.mark.proof),
    ],
)
def test_a_command_leaves_no_metrics(environment: dict[str, str], tmp_path: Path, variable: str, empty: bool) -> None:
    here, directory = tmp_path / "here", tmp_path / "metrics"
    here.mkdir()
    directory.mkdir()
    environment |= {
        variable: "" if empty else str(directory),
        "VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "PYTHONPATH": str(ROOT),
        "BIND": "127.0.0.1:1",  # nobody is there: `tools.load` says so
    }
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()], cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == (command.startswith("tools.load")), done.stderr
    assert list(here.iterdir()) == []
    assert list(directory.iterdir()) == []
