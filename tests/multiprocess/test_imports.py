"""The imports of each kind of process: nothing heavy, and no part of the library that the process does not need.

Parts of the library are recognised by their classes, so that modules may move.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.server_process import serving

if TYPE_CHECKING:
    from collections.abc import Callable

#: A part of the library, and the classes by which it is recognised. A renamed class changes a line here only.
PARTS = {
    "patches": {"MergedRegistry", "Cap"},
    "sampling": {"Sampler", "JobRunner", "ProcessMetrics", "Collectors"},
    "slot": {"SlotStore"},
    "values": {"Value", "Election"},
    "merge": {"MergedCollector", "Layout", "Source", "SourceSet", "Keys", "PlainVectors", "Inventory"},
    "storage": {"Lease", "ValueFile", "SeriesLog", "Family"},
}
#: Packages from elsewhere that only some processes need. `asyncio` and `subprocess` stand for the standard library's slow ones.
HEAVY = {"numpy", "orjson", "prometheus_client", "asyncio", "subprocess", "fastapi", "uvicorn", "gunicorn", "pydantic", "sqlalchemy"}

#: Prints the packages of HEAVY and the classes of the library that are loaded when the process ends.
REPORT = f"""
import atexit, json, os, sys
@atexit.register
def report():
    modules = {{name: module for name, module in sys.modules.items() if name.partition(".")[0] == "monitoring" or name == "__main__"}}
    classes = {{key for name, module in modules.items() for key, value in vars(module).items()
               if isinstance(value, type) and value.__module__ == name}}
    with open(os.environ["REPORT"], "w") as file:
        json.dump({{"heavy": sorted(set({sorted(HEAVY)!r}) & set(sys.modules)), "classes": sorted(classes)}}, file)
"""
INSTALL = "from monitoring import multiprocess\nmultiprocess.install(sample_seconds=0.05)\n"
WRITE = "import time; from prometheus_client import Counter; Counter('c', 'help', ['l']).labels('x').inc(); time.sleep(0.3)\n"
MERGE = "from prometheus_client import generate_latest; generate_latest()\n"
#: `python -m monitoring.exporter`, with a report at its end.
EXPORTER = "import runpy; runpy.run_module('monitoring.exporter', run_name='__main__', alter_sys=True)\n"


@dataclass
class Process:
    """A process that reports at its end: the packages of HEAVY that it has loaded, and which classes of which parts."""

    environment: dict[str, str]

    def read(self) -> None:
        report = json.loads(Path(self.environment["REPORT"]).read_text())
        self.heavy = set(report["heavy"])
        self.classes = {part: classes & set(report["classes"]) for part, classes in PARTS.items()}
        self.parts = {part for part, classes in self.classes.items() if classes}

    def execute(self, program: str) -> None:
        subprocess.run([sys.executable, "-W", "error", "-c", REPORT + program], env=self.environment, cwd=ROOT, check=True, timeout=60)
        self.read()

    def export(self, port: int, log: Path) -> None:
        """Serve one scrape, as `python -m monitoring.exporter` does, of a directory that a worker has written to."""
        subprocess.run([sys.executable, "-c", INSTALL + WRITE], env=self.environment, cwd=ROOT, check=True, timeout=60)
        environment = self.environment | {"METRICS_BIND": f"127.0.0.1:{port}"}
        with serving(["-c", REPORT + EXPORTER], port, "/healthz", environment, log) as served:
            assert b'c_total{l="x"} 1.0' in served.ask("GET", "/metrics").body
            served.process.terminate()
            assert served.process.wait(60) == 0
        self.read()


@pytest.fixture
def process(tmp_path: Path, environment: dict[str, str], metrics_directory: Path) -> Process:
    return Process(environment | {"REPORT": str(tmp_path / "report"), "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)})


def test_the_classes_are_those_of_the_library(process: Process) -> None:
    """Without this, a renamed class would be absent from every process, and the tests below would check nothing."""
    process.execute(INSTALL + WRITE + MERGE)
    assert process.classes == PARTS


@pytest.mark.parametrize("module", ["monitoring.multiprocess", "monitoring.exporter.__main__"])
def test_an_import_alone_loads_nothing(process: Process, module: str) -> None:
    process.execute(f"import {module}")
    assert not process.heavy
    assert not process.parts


def test_a_worker_does_not_merge(process: Process) -> None:
    process.execute(INSTALL + WRITE)
    assert process.heavy == {"prometheus_client"}
    assert process.parts == set(PARTS) - {"merge"}


def test_an_exporter_neither_patches_nor_samples(process: Process, free_port: Callable[[], int], tmp_path: Path) -> None:
    process.export(free_port(), tmp_path / "log")
    assert process.heavy <= {"prometheus_client", "numpy", "orjson"}
    assert process.parts & {"merge", "patches", "sampling", "values"} == {"merge"}


def test_an_exporter_has_no_slot(process: Process, free_port: Callable[[], int], tmp_path: Path) -> None:
    process.export(free_port(), tmp_path / "log")
    assert "slot" not in process.parts
