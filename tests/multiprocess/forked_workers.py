"""Programs in which forked workers write and remove, and the view of one of them is asked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


PRELUDE = """
import atexit, os, random, signal, sys, threading, time, mmap, struct
from monitoring import multiprocess
multiprocess.install(INSTALL)
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary, generate_latest
def shown(name, **labels): return REGISTRY.get_sample_value(name, labels)

class Other:
    \"\"\"A forked worker that does what it is told.\"\"\"
    def __init__(self):
        told, self.tell = os.pipe()
        self.hear, says = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            with os.fdopen(told) as lines:
                for line in lines:
                    exec(line, globals())
                    os.write(says, b"x")
            os._exit(0)
        atexit.register(self.kill)                  # also where an assertion failed
    def do(self, line):
        os.write(self.tell, line.encode() + b"\\n")
        assert os.read(self.hear, 1) == b"x"
    def kill(self):
        if self.pid: os.kill(self.pid, 9); os.waitpid(self.pid, 0)
        self.pid = 0
"""


def execute(program: str, directory: Path, environment: dict[str, str], install: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE.replace("INSTALL", install) + program],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
