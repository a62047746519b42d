"""`python -m tools.load` as a process, against the real service."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, built_environment
from tests.processes import MARKER, PATIENCE_SECONDS, end_marked

if TYPE_CHECKING:
    from collections.abc import Iterator

ADMIN_KEY = "the-operators"


class Loader:
    """Starts runs, and ends them, also when the test fails."""

    def __init__(self) -> None:
        self._marker = uuid.uuid4().hex
        self._begun: list[subprocess.Popen[str]] = []

    def begin(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        environment = built_environment() | {"ADMIN_KEY": ADMIN_KEY, MARKER: self._marker} | environ
        command = [sys.executable, "-m", "tools.load", *arguments]
        begun = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._begun.append(begun)
        return begun

    def finish(self, begun: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a run; give its exit code and what it printed. It says nothing on standard error where it printed a summary."""
        printed, complained = begun.communicate(timeout=4 * PATIENCE_SECONDS)
        assert not (printed and complained), complained
        print(printed + complained)
        return begun.returncode, printed or complained

    def run(self, *arguments: str, **environ: str) -> tuple[int, str]:
        return self.finish(self.begin(*arguments, **environ))

    def end(self) -> None:
        end_marked(self._marker)
        for begun in self._begun:
            with begun:
                pass


@pytest.fixture
def loader() -> Iterator[Loader]:
    made = Loader()
    yield made
    made.end()
