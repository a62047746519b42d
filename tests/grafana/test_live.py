"""Every panel has something to show: real services, real Prometheus, the load script, and whatever can go wrong made to go wrong."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from monitoring.breaker import state_layout
from tests.conftest import ROOT, built_environment
from tests.grafana.boards import ASKED, Asked, replaced
from tests.processes import PATIENCE_SECONDS, wait_until
from tests.server_process import ask
from tests.tools.load.conftest import ADMIN_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.grafana.conftest import Prometheus
    from tests.gunicorn_service import Gunicorn
    from tests.tools.load.conftest import Loader

ENDLESS = ("--requests", "10000000", "--seconds", "86400", "--slow", "0.2", "--concurrency", "4")
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_KEY}"}
COUNTED = ("service-health: Memory in use: A", "system-overview: Instances: A")
#: A program that has more series than it may.
TOO_MANY = """
from monitoring import multiprocess
multiprocess.install(max_series=1)
from prometheus_client import Counter
things = Counter("things", "Things.", ["kind"])
for kind in "ab":
    things.labels(kind).inc()
"""


def shown(prometheus: Prometheus, asked: Asked) -> list[dict[str, Any]]:
    """Give the series that a panel would draw now, of all since Prometheus began."""
    expression = replaced(asked.expression, window="10s", shown="10m")
    if asked.instant:
        return prometheus.ask("query", query=expression)
    return prometheus.ask("query_range", query=expression, start=f"{prometheus.began}", end=f"{time.time()}", step="1")


def has_data(prometheus: Prometheus, asked: Asked) -> bool:
    found = shown(prometheus, asked)
    for each in found:
        assert asked.labels <= each["metric"].keys(), f"{asked}: a series without a label of its legend: {each['metric']}"
    return any(math.isfinite(float(value)) for each in found for _, value in each["values"])


def unmatched(prometheus: Prometheus) -> set[str]:
    """Give the selectors to which there never was a series: behind an `or` nobody would miss them."""
    every = {found for asked in ASKED for found in re.findall(r"\w+{[^}]*}", replaced(asked.expression, window="10s", shown="10m"))}
    return {each for each in every if not prometheus.ask("query", query=f"count(last_over_time({each}[1h]))")}


def post(gunicorn: Gunicorn, path: str, given: dict[str, object], method: str = "POST") -> int:
    return ask(gunicorn.port, method, path, json.dumps(given).encode(), HEADERS).status


def test_every_query_of_every_panel_returns_data(
    whole: Gunicorn, broken: Gunicorn, prometheus: Prometheus, loader: Loader, tmp_path: Path
) -> None:
    assert post(whole, "/v1/prices", {"prompt": "900", "generated": "900"}, "PUT") == 200
    environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": whole.environment["PROMETHEUS_MULTIPROC_DIR"]}
    subprocess.run([sys.executable, "-c", TOO_MANY], cwd=ROOT, env=environment, check=True)
    run = loader.begin("--url", f"http://127.0.0.1:{whole.port}", *ENDLESS)
    pending, missing = list(ASKED), {"all"}

    def fail() -> None:
        """Call a model of the server that is away, and damage the breaker's file once it is there."""
        assert post(broken, "/v1/completions", {"model": "any", "prompt": "x"}) in {502, 503}
        for file in (tmp_path / "run").glob("breaker-*"):
            if not (tmp_path / "damaged").exists():
                with file.open("r+b") as state:
                    state.seek(8 * state_layout.MAGIC_AT)
                    state.write(bytes(8))
                (tmp_path / "damaged").touch()

    def all_answered() -> bool:
        nonlocal missing
        assert run.poll() is None, loader.finish(run)
        fail()
        pending[:] = [asked for asked in pending if not has_data(prometheus, asked)]
        missing = set() if pending else unmatched(prometheus)
        return not pending and not missing

    try:
        wait_until(all_answered, "every panel shows something", 4 * PATIENCE_SECONDS)
    finally:
        print("no data:", *pending, *missing, sep="\n")
    run.send_signal(signal.SIGINT)
    code, printed = loader.finish(run)
    assert code == 130, printed

    devices, instances = (shown(prometheus, asked) for title in COUNTED for asked in ASKED if str(asked) == title)
    assert [each["values"][-1][1] for each in devices] == ["1000", "1001"], "each device is shown once"
    assert max(float(value) for _, value in instances[0]["values"]) == 2
    told = prometheus.ask("query", query="count(last_over_time(neurectomy_active_users[1h]))")
    assert told[0]["values"][0][1] == "2", "both show the users of their one database"
