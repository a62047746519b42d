"""What metrics cost a request: `python benchmarks/middleware.py` prints each variant's ratio to the bare app.

In-process ASGI, no sockets; 20 and 200 plain routes, all called in turn or so many as `--called` says; multiprocess mode on. Every
variant runs in its own process, and after a warm-up all of them are measured in turn, round after round and every other round backwards.
A variant's figure is the median over rounds of its CPU time divided by the bare app's in the same round, so what slows the machine for a
while slows both. Where its objects happen to lie makes a process some 2% faster or slower for as long as it lives, so all of them are
replaced `--processes` times. `--instructions` counts with valgrind what the processor executes instead, on which caches have no bearing: a
larger app leaves them colder.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

ROOT = Path(__file__).resolve().parent.parent
BARE = "bare"
VARIANTS = {
    BARE: "no metrics",
    "ours": "all six families, our values",
    "stock": "all six families, stock mmap values",
    "instrumentator": "prometheus-fastapi-instrumentator",
    "starlette_exporter": "starlette_exporter",
}
PACKAGES = {"instrumentator": "prometheus_fastapi_instrumentator", "starlette_exporter": "starlette_exporter"}
Scope = MutableMapping[str, Any]
Call = Callable[[int], Awaitable[None]]


def main() -> None:
    """Measure, print, and fail where ours is above the bar that was asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=25, help="of each set of processes")
    options.add_argument("--processes", type=int, default=9, help="sets of processes")
    options.add_argument("--calls", type=int, default=400, help="requests per variant and round")
    options.add_argument("--routes", type=int, nargs="+", default=[20, 200])
    options.add_argument("--called", type=int, help="how many of the routes are called")
    options.add_argument("--instructions", action="store_true", help="count instructions with valgrind, of the bare app and ours")
    options.add_argument("--variants", nargs="+", choices=[name for name in VARIANTS if name != BARE], default=None)
    options.add_argument("--bar", type=float, help="exit with 1 where ours is above this ratio")
    options.add_argument("--serve", nargs=3, metavar=("VARIANT", "ROUTES", "CALLED"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        serve(chosen.serve[0], int(chosen.serve[1]), int(chosen.serve[2]))
        return
    if chosen.instructions:
        for routes in chosen.routes:
            bare, ours = (instructions(name, routes, chosen.called or routes) for name in (BARE, "ours"))
            print(f"{routes:>6} routes: {bare:,.0f} instructions a request, and {ours - bare:,.0f} more with all six families", flush=True)
        return
    variants = [BARE]
    for name in chosen.variants or [name for name in VARIANTS if name != BARE]:
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            print(f"left out: {name}; pip install {package.replace('_', '-')}")
        else:
            variants.append(name)
    print(f"Python {sys.version.split()[0]}, {form()}, {chosen.processes} times {chosen.rounds} rounds of {chosen.calls} requests\n")
    print(f"{'variant':<38} {'routes':>6} {'us/request':>10} {'ratio':>7} {'added us':>9}   quartiles of the ratio")
    failed = False
    for routes in chosen.routes:
        for name, times in measure(variants, routes, chosen).items():
            failed |= report(name, routes, times, chosen.bar)
    sys.exit(1 if failed else 0)


def report(name: str, routes: int, pairs: list[tuple[float, float]], bar: float | None) -> bool:
    """Print one line; say whether it is ours and above the bar."""
    ratios = [mine / bare for mine, bare in pairs]
    ratio = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    microseconds = statistics.median(mine for mine, _ in pairs) * 1e6
    added = statistics.median(mine - bare for mine, bare in pairs) * 1e6
    print(f"{VARIANTS[name]:<38} {routes:>6} {microseconds:>10.1f} {ratio:>7.3f} {added:>9.2f}   {low:.3f} to {high:.3f}", flush=True)
    return bar is not None and name == "ours" and ratio > bar


def form() -> str:
    """Say what is measured."""
    from monitoring.http import compiled

    return "ours compiled" if compiled() else "ours interpreted"


def measure(variants: list[str], routes: int, chosen: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Give, per variant, each round's seconds per request of the variant and of the bare app."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(chosen.processes):
        servers = {name: Server(name, routes, chosen.called or routes) for name in variants}
        try:
            for server in servers.values():
                server.run(max(2000, 20 * routes))
            for number in range(chosen.rounds):
                order = variants if number % 2 else variants[::-1]
                taken = {name: servers[name].run(chosen.calls) for name in order}
                for name in variants:
                    times[name].append((taken[name], taken[BARE]))
        finally:
            for server in servers.values():
                server.end()
    return times


def instructions(variant: str, routes: int, called: int) -> float:
    """Give the instructions of one request: what a longer run has more than a shorter one."""

    def executed(calls: int) -> int:
        with tempfile.TemporaryDirectory() as directory:
            command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__]
            done = subprocess.run(
                [*command, "--serve", variant, str(routes), str(called)],
                env=environment(directory) | {"PYTHONHASHSEED": "0"},
                input=f"{calls}\n",
                capture_output=True,
                text=True,
                check=True,
            )
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found, done.stderr
        return int(found[1])

    few = 20 * called
    return (executed(few + 1000) - executed(few)) / 1000


def environment(directory: str) -> dict[str, str]:
    """Build what a measured process starts with."""
    return {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": directory}


class Server:
    """A process that holds one variant, idle until it is told how many requests to run."""

    def __init__(self, variant: str, routes: int, called: int) -> None:
        memory = Path("/dev/shm")
        self._directory = tempfile.mkdtemp(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", variant, str(routes), str(called)],
            env=environment(self._directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, calls: int) -> float:
        """Give the seconds that one request took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark's process {self._process.pid} ended; its error is above")
        return float(line)

    def end(self) -> None:
        """End the process and remove its metrics."""
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._directory, ignore_errors=True)


def serve(variant: str, routes: int, called: int) -> None:
    """Run as many requests as each line of stdin says, and print the seconds per request."""
    if variant == "ours":
        from monitoring import multiprocess

        multiprocess.install()
    call = requests(build(variant, routes), routes)

    async def run(calls: int) -> float:
        began = time.process_time()
        for number in range(calls):
            await call(number % called * (routes // called))
        return (time.process_time() - began) / calls

    with asyncio.Runner() as runner:
        gc.collect()
        gc.freeze()
        done = 0
        for line in sys.stdin:
            print(runner.run(run(int(line))), flush=True)
            done += int(line)
            if variant in {"ours", "stock"}:
                check(done)


def check(done: int) -> None:
    """Refuse to time a middleware that does not count."""
    from monitoring import metrics

    counted = sum(
        child._value.get() for labels, child in metrics.http_requests._metrics.items() if labels[0] == "GET" and labels[2] == "200"
    )
    assert counted == done, f"{counted} of {done} requests were counted"


def build(variant: str, routes: int) -> FastAPI:
    """Make an app of plain routes under a variant of metrics."""
    from fastapi import FastAPI

    app = FastAPI()
    if variant in {"ours", "stock"}:
        from monitoring.metrics import MetricsMiddleware

        app.add_middleware(MetricsMiddleware)
    elif variant == "starlette_exporter":
        from starlette_exporter import PrometheusMiddleware

        app.add_middleware(PrometheusMiddleware, group_paths=True)

    async def answer() -> dict[str, str]:
        return {"status": "ok"}

    for number in range(routes):
        app.get(f"/route{number}")(answer)
    if variant == "instrumentator":
        from prometheus_fastapi_instrumentator import Instrumentator

        Instrumentator().instrument(app)
    return app


def requests(app: FastAPI, routes: int) -> Call:
    """Give a driver that runs one request as a server would, without its sockets."""
    paths = [(f"/route{number}", f"/route{number}".encode()) for number in range(routes)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200

    async def call(number: int) -> None:
        path, raw = paths[number]
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40000),
            "scheme": "http",
            "method": "GET",
            "root_path": "",
            "path": path,
            "raw_path": raw,
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
            "state": {},
        }
        await app(scope, receive, send)

    return call


if __name__ == "__main__":
    main()
