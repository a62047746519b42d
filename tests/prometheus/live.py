"""Prometheus and Alertmanager for one test, a webhook that gets their alerts, and a kubelet that plays what was recorded."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from monitoring.observe.stack import Child, observing
from tests.processes import wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from monitoring.prometheus import Configuration

Server = TypeVar("Server", bound=ThreadingHTTPServer)
RECORDED = Path(__file__).with_name("cadvisor.txt")


@dataclass
class Live:
    """What runs, and how to ask it."""

    configuration: Configuration
    webhook: Webhook
    children: list[Child] = field(default_factory=list)

    def prometheus(self, path: str, **query: str) -> Any:
        return _get(self.configuration.prometheus, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.prometheus("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """Give the names of what fires in Prometheus."""
        return {alert["labels"]["alertname"] for alert in self.prometheus("alerts")["alerts"] if alert["state"] == "firing"}

    def active(self) -> set[str]:
        """Give the names of what fires in Alertmanager."""
        return {alert["labels"]["alertname"] for alert in _get(self.configuration.alertmanagers[0], "/api/v2/alerts")}

    def muted(self) -> set[str]:
        """Give the names of what Alertmanager tells nobody, since something else says why."""
        alerts = _get(self.configuration.alertmanagers[0], "/api/v2/alerts?active=true&inhibited=true")
        return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["inhibitedBy"]}

    def wait_told(self, *names: str) -> None:
        """Wait until the webhook was told that each fires."""
        for name in names:
            wait_until(lambda name=name: "firing" in self.webhook.last(name), f"the webhook is told of {name}", 180)  # type: ignore[misc]

    def wait_resolved(self, *names: str) -> None:
        """Wait until the last that the webhook was told of each, with whatever labels, is that it has ended."""
        for name in names:
            wait_until(lambda name=name: self.webhook.last(name) == {"resolved"}, f"the webhook is told that {name} has ended", 180)  # type: ignore[misc]


class Webhook(ThreadingHTTPServer):
    """Gets what Alertmanager sends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.alerts: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def last(self, name: str) -> set[str]:
        """Give what was said last of each alert of this name."""
        return set({json.dumps(alert["labels"]): alert["status"] for alert in self.of(name)}.values())

    def of(self, name: str, **labels: str) -> list[dict[str, Any]]:
        wanted = {"alertname": name, **labels}.items()
        return [alert for alert in list(self.alerts) if wanted <= alert["labels"].items()]


class _Hook(BaseHTTPRequestHandler):
    server: Webhook

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.server.alerts += json.loads(self.rfile.read(int(self.headers["content-length"])))["alerts"]
        self.send_response(204)
        self.end_headers()


class Kubelet(ThreadingHTTPServer):
    """Plays what was recorded of a pod: as it was, its moments put to now, and its CPU time going on at a rate that can be set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorded)
        self.begun = time.monotonic()
        self.cpus, self.memory_share = 0.1, 0.1

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def text(self) -> str:
        used = 8902.0 + self.cpus * (time.monotonic() - self.begun)
        limit = 1.073741824e09

        def now(line: re.Match[str]) -> str:
            series, value = line[1], line[2]
            if series.startswith("container_cpu_usage_seconds_total") and 'container="service"' in series:
                value = f"{used:f}"
            if series.startswith("container_memory_working_set_bytes") and 'container="service"' in series:
                value = f"{self.memory_share * limit:f}"
            return f"{series} {value} {int(time.time() * 1000)}"

        return re.sub(r"^(.*}) (\S+) \d+$", now, RECORDED.read_text(), flags=re.MULTILINE)


class _Recorded(BaseHTTPRequestHandler):
    server: Kubelet

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serve(made: Callable[[], Server]) -> Iterator[Server]:
    server = made()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def live(configuration: Configuration, webhook: Webhook, folder: Path, environment: dict[str, str]) -> Iterator[Live]:
    """Run both until the block ends."""
    with observing(configuration, folder, environment) as children:
        yield Live(configuration, webhook, children)


def _get(address: str, path: str) -> Any:
    return json.loads(ask(int(address.rpartition(":")[2]), "GET", path).body)
