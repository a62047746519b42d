"""The table in docs/gauge-modes.md, run: real workers, one gauge of each mode, and what a scrape shows after each row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from monitoring.multiprocess import MergedCollector
from tests.conftest import ROOT

from .programs import Program, Programs
from .simulated_workers import samples

if TYPE_CHECKING:
    from pathlib import Path

WORKER = """
multiprocess.install(sample_seconds=3600)
from prometheus_client import Gauge
gauges = [Gauge(f"g_{mode}", "help", ["l"], multiprocess_mode=mode) for mode in MODES]
multiprocess.acquire()
children = [gauge.labels("x") for gauge in gauges]
print("done 0", flush=True)
for number, line in enumerate(sys.stdin, 1):
    for gauge, child in zip(gauges, children):
        gauge.remove("x") if line.startswith("remove") else eval("child." + line)
    print("done", number, flush=True)
"""


def table() -> tuple[list[str], list[tuple[list[str], list[str]]]]:
    """The modes, and of each row the steps and what is shown of each mode."""
    page = (ROOT / "docs" / "gauge-modes.md").read_text()
    lines = re.search(r"^\| \| .*?(?=\n\n)", page, re.MULTILINE | re.DOTALL)
    assert lines is not None, "the page has a table whose first column has no name"
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()]
    return [mode.strip("`") for mode in head[1:]], [(re.findall(r"`([^`]+)`", steps), shown) for steps, *shown in rows]


class Service:
    """The workers of the table by their letters."""

    def __init__(self, programs: Programs, modes: list[str]) -> None:
        self._programs = programs
        self._source = WORKER.replace("MODES", repr(modes))
        self._workers: dict[str, Program] = {}
        self._told: dict[str, int] = {}

    def step(self, words: str) -> None:
        if words.startswith("start "):
            name = words.removeprefix("start ")
            self._workers[name], self._told[name] = self._programs.start(self._source), 0
            self._workers[name].wait_for("done 0")
        elif words.startswith("kill "):
            self._workers[words.removeprefix("kill ")].kill()
        else:
            name, _, call = words.partition(".")
            self._told[name] += 1
            self._workers[name].tell(call)
            self._workers[name].wait_for(f"done {self._told[name]}")


def shown(view: MergedCollector, mode: str) -> str:
    """What the view says of one mode, as the table writes it."""
    found = {dict(labels).get("pid", ""): value for (name, labels), value in samples(view).items() if name == f"g_{mode}"}
    texts = [f"{slot}: {value!r}" if slot else repr(value) for slot, value in sorted(found.items())]
    return ", ".join(texts).replace(".0", "") or "-"


def test_every_row_of_the_table(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    modes, rows = table()
    assert sorted(modes) == sorted(Gauge._MULTIPROC_MODES)
    assert len(rows) == 13
    with Programs(metrics_directory, environment) as programs:
        service = Service(programs, modes)
        for steps, expected in rows:
            for step in steps:
                service.step(step)
            assert [shown(view, mode) for mode in modes] == expected, steps


def test_the_default_is_upstreams() -> None:
    assert Gauge("gauge_modes_default", "Help.", registry=None)._multiprocess_mode == "all"
