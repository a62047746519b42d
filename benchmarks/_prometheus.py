"""Real Prometheus servers that scrape the simulated pods, and what they use."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from _fleet import environment
from _service import get

from monitoring.observe.programs import find
from monitoring.observe.stack import Child, free_address, running
from monitoring.prometheus import Configuration, Times
from monitoring.prometheus.files import texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass
class Observer:
    """A Prometheus, and what it has used."""

    name: str
    child: Child
    address: str
    data: Path

    def cpu(self) -> float:
        """Give the seconds of CPU time that it has used."""
        fields = Path(f"/proc/{self.child.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Give the bytes of memory that are its own: the heap, not the files that it maps."""
        fields = dict(line.split(":") for line in Path(f"/proc/{self.child.process.pid}/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024

    def ask(self, path: str, **query: str) -> Any:
        """Ask its API."""
        return json.loads(get(int(self.address.rpartition(":")[2]), f"/api/v1/{path}?{urllib.parse.urlencode(query)}"))["data"]

    def number(self, expression: str) -> float:
        """Give the sum of what an expression finds."""
        return sum(float(each["value"][1]) for each in self.ask("query", query=expression)["result"])

    def range(self, expression: str, seconds: float) -> tuple[float, int]:
        """Give the seconds that a dashboard's query takes, and how many samples it reads."""
        end = time.time()
        begun = time.perf_counter()
        found = self.ask("query_range", query=expression, start=str(end - seconds), end=str(end), step="15", stats="all")
        return time.perf_counter() - begun, found["stats"]["samples"]["totalQueryableSamples"]


@contextlib.contextmanager
def observers(pods: int, port: int, data: Path, interval: float) -> Iterator[list[Observer]]:
    """Run one Prometheus without rules and one with ours, scraping `/0` to `/<pods - 1>` of a port."""
    times = replace(Times(), scrape=interval, evaluation=interval)
    made = texts(replace(Configuration(), cluster="simulated", times=times))
    with contextlib.ExitStack() as stack:
        found = []
        for name, rules in (("without rules", ()), ("with rules", ("rules.yml", "alerts.yml"))):
            folder = data / name.replace(" ", "-")
            folder.mkdir()
            for rule in rules:
                (folder / rule).write_text(made[rule])
            (folder / "prometheus.yml").write_text(yaml.safe_dump(_configured(made["prometheus.yml"], pods, port, rules)))
            address = free_address()
            arguments = (
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            )
            child = stack.enter_context(running(name, [find("prometheus"), *arguments], folder / "log", environment()))
            child.wait_ready(address, "/-/ready")
            found.append(Observer(name, child, address, folder / "data"))
        yield found


def _configured(text: str, pods: int, port: int, rules: Sequence[str]) -> dict[str, Any]:
    configured: dict[str, Any] = yaml.safe_load(text)
    service = configured["scrape_configs"][0]
    service["static_configs"][0]["targets"] = [f"pod-{number}" for number in range(pods)]
    service["relabel_configs"] = [
        {"source_labels": ["__address__"], "target_label": "instance"},
        {"source_labels": ["__address__"], "regex": "pod-(.*)", "target_label": "__metrics_path__", "replacement": "/$1"},
        {"target_label": "__address__", "replacement": f"127.0.0.1:{port}"},
    ]
    del configured["alerting"]
    return configured | {"scrape_configs": [service], "rule_files": list(rules)}
