"""`python -m tools.load`: the command line.

The exit code is 1 if the service or its metrics cannot be reached, or the metrics are wrong, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from app import command_environment  # noqa: F401 - first: see there
from app.settings import Settings, SettingsError
from monitoring.addresses import ANY, ANY_IPV6, Address

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from monitoring.verify.ledger import Sample
    from tools.load.client import Client
    from tools.load.runner import Run

_N = TypeVar("_N", int, float)
_INTERRUPTED = 130
_SECONDS_MOST, _CALLS_MOST, _AT_ONCE_MOST = 86_400, 10_000_000, 1000


def main() -> None:
    """Run the command."""
    try:
        from tools.load.scenarios import SCENARIOS
    except ModuleNotFoundError as error:
        sys.exit(f"tools.load: {error.name} is not installed. Run `make setup`")
    chosen = _parser([scenario.name for scenario in SCENARIOS]).parse_args()
    try:
        settings = Settings.load()
        chosen.metrics = chosen.metrics and _url(chosen.metrics)
        url = _url(chosen.url or os.environ.get("LOAD_URL") or _bound(settings.bind))
    except (SettingsError, ValueError) as error:
        sys.exit(f"tools.load: {error}")
    try:
        sys.exit(asyncio.run(_load(chosen, url, settings)))
    except KeyboardInterrupt:  # the second one
        sys.exit(_INTERRUPTED)


def _parser(scenarios: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.load",
        description="Send requests to all endpoints of a running service, with the key in ADMIN_KEY. METRICS_TOKEN is for scrapes.",
    )
    parser.add_argument("--url", help="the address of the service (LOAD_URL, or the address in BIND)")
    parser.add_argument("--metrics", metavar="URL", help="scrape this before and after, and compare; no other client may use the service")
    parser.add_argument("--shared", action="store_true", help="other clients use the service too: check only that nothing is lost")
    parser.add_argument(
        "--requests", type=_number(int, 1, _CALLS_MOST), default=1000, help="the most requests, without set-up and clean-up (1000)"
    )
    parser.add_argument("--seconds", type=_number(float, 0, _SECONDS_MOST), default=120.0, help="send no request later than this (120)")
    parser.add_argument("--concurrency", type=_number(int, 1, _AT_ONCE_MOST), default=8, help="concurrent requests (8)")
    parser.add_argument("--timeout", type=_number(float, 0, _SECONDS_MOST), default=60.0, help="seconds for one request (60)")
    parser.add_argument(
        "--slow", type=_number(float, 0, _SECONDS_MOST), default=2.0, help="seconds that a slow request takes to send or read (2)"
    )
    parser.add_argument("--without", action="append", choices=scenarios, default=[], help="leave this scenario out; can be repeated")
    parser.add_argument("--model", help="a model of GET /v1/models (the first)")
    parser.add_argument("--restore", action="store_true", help="also restore a snapshot, which undoes what other clients stored since")
    parser.add_argument("--seed", type=int, help="of the random choices (a new one each time)")
    parser.add_argument("--keep", action="store_true", help="keep objects, keys, agents, prices, dictionaries and snapshots")
    return parser


async def _load(chosen: argparse.Namespace, url: str, settings: Settings) -> int:
    from tools.load.client import Client, UnavailableError
    from tools.load.runner import Run
    from tools.load.scenarios import Context
    from tools.load.scrape import ScrapeError, scrape

    seed = secrets.randbelow(2**32) if chosen.seed is None else chosen.seed
    choice = random.Random(seed)
    client = Client(url, settings.admin_key, chosen.concurrency, chosen.timeout, choice)
    # Not from the seed: the names that two runs make must differ.
    context = Context(client, choice, secrets.token_hex(4), chosen.slow, chosen.restore, chosen.model)
    run = Run(context, frozenset(chosen.without))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _stop, client)
    before: Counter[Sample] | None = None
    try:
        if chosen.metrics:
            before = await scrape(chosen.metrics, settings.metrics_token)
        await _go(run, client, chosen)
        after = None if before is None else await scrape(chosen.metrics, settings.metrics_token)
    except UnavailableError as error:
        sys.exit(f"tools.load: there is no service at {url}: {error}")
    except ScrapeError as error:
        sys.exit(f"tools.load: {error}")
    finally:
        await client.close()
    print(f"{url}, seed {seed}")
    wrong = _report(run, client, before, after, shared=chosen.shared)
    return _INTERRUPTED if client.stopped else int(wrong or client.gone)


async def _go(run: Run, client: Client, chosen: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("setting up", total=chosen.requests)
        client.progress = lambda: progress.update(task, completed=client.sent)
        try:
            await run.set_up()
            progress.update(task, description="sending")
            await run.mix(chosen.concurrency, chosen.requests, chosen.seconds)
        finally:
            if not chosen.keep:
                progress.update(task, description="cleaning up")
                await run.tear_down()


def _report(run: Run, client: Client, before: Counter[Sample] | None, after: Counter[Sample] | None, *, shared: bool) -> bool:
    """Print the summary; return whether the metrics are wrong."""
    from monitoring.verify.check import differences, increases
    from tools.load.summary import summary

    moved = None if before is None or after is None else increases(before, after)
    print("\n".join(summary(client, run.seconds, moved)))
    if moved is None:
        return False
    found = differences(client.ledger, moved, shared=shared)
    for line in found:
        print(f"metrics: {line}")
    if not found:
        print(f"metrics: acknowledged <= counted{'' if shared else ' <= sent'} holds for all {len(set(client.ledger.samples()))} samples")
    return bool(found)


def _stop(client: Client) -> None:
    """Send no further request. The next SIGINT ends the process."""
    client.stopped = True
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def _bound(bind: str) -> str:
    """Return a URL of the first address in BIND."""
    address = Address.parse(bind.partition(",")[0])
    if not address.host:
        raise ValueError(f"BIND={bind!r} is not an address that can be called. Set --url.")
    host = {ANY: "127.0.0.1", ANY_IPV6: "::1"}.get(address.host, address.host)
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"


def _url(text: str) -> str:
    parts = urlsplit(text)
    with contextlib.suppress(ValueError):  # an invalid port
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return text.rstrip("/")
    raise ValueError(f"{text!r} is not the address of a service. Use http://host:port or https://host:port.")


def _number(kind: Callable[[str], _N], least: _N, most: _N) -> Callable[[str], _N]:
    """Return a parser of numbers from `least` to `most`."""

    def number(text: str) -> _N:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return value

    return number


if __name__ == "__main__":
    main()
