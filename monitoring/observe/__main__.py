"""`python -m monitoring.observe -- COMMAND` runs a service with Prometheus and Alertmanager beside it, until Ctrl-C.

The command finds free addresses in BIND and METRICS_BIND, as the service's own configuration does. Without a command the running services
of --targets are observed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.prometheus.configuration import Configuration, ConfigurationError

from .programs import MissingError, find
from .stack import Child, EndedError, free_address, observing, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SERVICE_ENDS_SECONDS = 40
"""More than GRACEFUL_TIMEOUT's default."""


def main(arguments: list[str] | None = None) -> int:
    """Run everything. Return the exit code, after a line on stderr where it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.observe", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", help="observe these, host:port of exporters with commas between, and start no service")
    parser.add_argument("--folder", type=Path, help="keep all files there; without it they are removed at the end")
    parser.add_argument("command", nargs="*", help="starts the service; after --")
    asked = parser.parse_args(arguments)
    if bool(asked.targets) == bool(asked.command):
        parser.error("give either --targets or a command")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with _folder(asked.folder) as folder:
            environ = dict(os.environ)
            if asked.targets:
                environ["METRICS_TARGETS"] = asked.targets
            _observe(folder, environ, asked.command)
    except KeyboardInterrupt:
        print("\nended", flush=True)
        return 0
    except (ConfigurationError, MissingError, EndedError, TimeoutError) as error:
        print(f"observe: {error}", file=sys.stderr)
    except OSError as error:
        print(f"observe: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
    return 1


def _observe(folder: Path, environ: dict[str, str], command: list[str]) -> None:
    configuration = Configuration.read(environ)
    for name in ("prometheus", "alertmanager"):
        find(name)  # before anything is started
    configuration = replace(configuration, prometheus=free_address(), alertmanagers=(free_address(),))
    with contextlib.ExitStack() as stack:
        children: list[Child] = []
        if command:
            bind, metrics_bind = free_address(), free_address()
            configuration = replace(configuration, targets=(metrics_bind,))
            service = {**environ, "BIND": bind, "METRICS_BIND": metrics_bind}
            children.append(stack.enter_context(running("the service", command, folder / "service.log", service, _SERVICE_ENDS_SECONDS)))
            children[0].wait_ready(metrics_bind, "/healthz")
            print(f"service        http://{bind}", flush=True)
        children += stack.enter_context(observing(configuration, folder, environ))
        for target in configuration.targets:
            print(f"metrics        http://{target}/metrics")
        print(f"Prometheus     http://{configuration.prometheus}/alerts")
        print(f"Alertmanager   http://{configuration.alertmanagers[0]}")
        print(f"files and logs {folder}")
        print("dashboards     monitoring/grafana/dashboards: import them into Grafana, with this Prometheus as their datasource")
        print("Ctrl-C ends all of it", flush=True)
        while True:
            for child in children:
                child.check()
            time.sleep(0.5)


@contextlib.contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    made = Path(tempfile.mkdtemp(prefix="observe-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # once is enough: who is impatient must leave nothing running
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
