"""Programs of a test in real processes on one metrics directory: started, heard line by line, and always ended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests import processes
from tests.processes import MARKER, wait_until

if TYPE_CHECKING:
    from pathlib import Path

# A line is written whole, so that those of a parent and its forked child do not mix.
START = """
import os, sys, signal, threading, time
sys.stdout.reconfigure(line_buffering=True, write_through=False)
from monitoring import multiprocess
"""


@dataclass
class Program:
    """One process, and every line that it has printed with the moment at which it came."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, line: str) -> None:
        """Wait until it has printed this line."""

        def came() -> bool:
            assert line in self.lines or self.process.poll() is None, f"it ended with {self.process.returncode} after {self.lines}"
            return line in self.lines

        wait_until(came, f"a program prints {line!r}")

    def tell(self, line: str = "") -> None:
        """Give it a line on stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> float:
        """Kill -9; the moment at which it was sent."""
        moment = time.monotonic()
        self.process.kill()
        self.process.wait()
        return moment

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its own end."""
        return self.process.wait(timeout)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def close(self) -> None:
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Programs:
    """The programs of one test; leaving the block ends them and whatever they have started."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.marker = uuid.uuid4().hex
        self.environment = {**environment, "PROMETHEUS_MULTIPROC_DIR": str(directory), MARKER: self.marker}
        self.started: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        processes.end_marked(self.marker)
        for program in self.started:
            program.close()
            print(f"--- {program.pid} ended with {program.process.returncode}:", *program.lines[-50:], sep="\n")

    def start(self, source: str, *flags: str) -> Program:
        """Start a Python program; its errors come among its lines."""
        program = Program(
            subprocess.Popen(
                [sys.executable, *flags, "-c", START + source],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self.started.append(program)
        return program
