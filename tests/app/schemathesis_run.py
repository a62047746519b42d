"""schemathesis against a running service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import PROVES, ROOT, built_environment

EXAMPLES = "25" if PROVES else "4"


def schemathesis(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "--config-file", str(ROOT / "schemathesis.toml"), *arguments],
        cwd=cwd,
        env=built_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run(url: str, cwd: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return schemathesis("run", url, "--max-examples", EXAMPLES, "--generation-database", "none", *more, cwd=cwd)
