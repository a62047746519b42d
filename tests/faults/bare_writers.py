"""Bare writers of a test: started on one directory, asked over pipes, ended by pid."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests import processes
from tests.processes import MARKER

from .harness import ROOT
from .scraper import Samples, parse, view

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Bare:
    """One bare writer."""

    process: subprocess.Popen[str]

    def ask(self, *words: object) -> str:
        """Give a command and wait for its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if words:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer[:1] == (["done"] if words else ["ready"]), f"{words}: the writer ended or answered {answer}"
        return answer[-1]

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Give the pipes back."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Writers:
    """Makes the bare writers of one directory; the first keeps the run alive while others die."""

    directory: Path
    environment: dict[str, str]
    log: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    writers: list[Bare] = field(default_factory=list)

    @property
    def full_environment(self) -> dict[str, str]:
        """What a writer starts with."""
        return self.environment | {"PROMETHEUS_MULTIPROC_DIR": str(self.directory), MARKER: self.marker}

    def start(self, deploy: int = 1, *, namespace: bool = False) -> Bare:
        """Start a writer, in a pid namespace of its own where asked for."""
        command = [sys.executable, "-m", "tests.faults.writer", str(deploy)]
        if namespace:
            unshare = shutil.which("unshare")
            assert unshare is not None
            command = [unshare, "--pid", "--fork", "--kill-child", "--mount-proc", *command]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.full_environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        writer = Bare(process)
        self.writers.append(writer)
        writer.ask()
        return writer

    def samples(self) -> Samples:
        """Look at the directory with a new view."""
        return parse(view(self.directory)())[0]

    def end(self) -> None:
        """End all writers, and print what they said."""
        processes.end_marked(self.marker)
        for writer in self.writers:
            writer.process.wait()
            writer.close()
        if self.log.exists():
            print(self.log.read_text(errors="replace")[-10_000:])
