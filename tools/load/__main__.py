"""`python -m tools.load`: the command line.

The exit code is 1 where the service or its metrics are away, or the metrics are wrong, and 130 after Ctrl-C.
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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app import command_environment  # noqa: F401 - first: see there
from app.settings import Settings, SettingsError
from monitoring.addresses import ANY, ANY_IPV6, Address

if TYPE_CHECKING:
    from collections import Counter

    from tools.load.client import Client
    from tools.load.ledger import Sample
    from tools.load.runner import Run

_INTERRUPTED = 130
_SECONDS_MOST, _CALLS_MOST, _AT_ONCE_MOST = 86_400, 10_000_000, 1000


def main() -> None:
    """Do what the command line says."""
    try:
        from tools.load.scenarios import PARTS
    except ModuleNotFoundError as error:
        sys.exit(f"tools.load: {error.name} is not installed: install neurectomy-monitoring[load]")
    chosen = _parser([part.name for part in PARTS]).parse_args()
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


def _parser(parts: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.load",
        description="A mix of calls over all endpoints of a running service, with the key of ADMIN_KEY; METRICS_TOKEN is for scrapes.",
    )
    parser.add_argument("--url", help="where the service is (LOAD_URL, else what BIND says)")
    parser.add_argument("--metrics", metavar="URL", help="scrape this before and after, and compare; nobody else may call the service then")
    parser.add_argument("--shared", action="store_true", help="others call too: only what is counted less than acknowledged is wrong")
    parser.add_argument("--requests", type=_whole(_CALLS_MOST), default=1000, help="the most calls, beside those that begin and end (1000)")
    parser.add_argument("--seconds", type=_number(_SECONDS_MOST), default=120.0, help="no call begins later (120)")
    parser.add_argument("--concurrency", type=_whole(_AT_ONCE_MOST), default=8, help="calls at once (8)")
    parser.add_argument("--timeout", type=_number(_SECONDS_MOST), default=60.0, help="seconds for one call (60)")
    parser.add_argument("--slow", type=_number(_SECONDS_MOST), default=2.0, help="seconds that a slow call takes to send or read (2)")
    parser.add_argument("--without", action="append", choices=parts, default=[], help="leave this part out; may be given again")
    parser.add_argument("--model", help="a model of GET /v1/models (the first)")
    parser.add_argument("--restore", action="store_true", help="also restore a snapshot, which undoes what others store meanwhile")
    parser.add_argument("--seed", type=int, help="of the random choices (another one each time)")
    parser.add_argument("--keep", action="store_true", help="leave what was made: objects, keys, agents, prices, dictionaries, snapshots")
    return parser


async def _load(chosen: argparse.Namespace, url: str, settings: Settings) -> int:
    from tools.load.client import Client, OffError
    from tools.load.runner import Run
    from tools.load.scenarios import Setting
    from tools.load.scrape import ScrapeError, scrape

    seed = secrets.randbelow(2**32) if chosen.seed is None else chosen.seed
    choice = random.Random(seed)
    client = Client(url, settings.admin_key, chosen.concurrency, chosen.timeout, choice)
    # Not from the seed: what two runs make must not have the same name.
    setting = Setting(client, choice, secrets.token_hex(4), chosen.slow, chosen.restore, chosen.model)
    run = Run(setting, frozenset(chosen.without))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _stop, client)
    before: Counter[Sample] | None = None
    try:
        if chosen.metrics:
            before = await scrape(chosen.metrics, settings.metrics_token)
        await _go(run, client, chosen)
        after = None if before is None else await scrape(chosen.metrics, settings.metrics_token)
    except OffError as error:
        return _fail(f"there is no service at {url}: {error}")
    except ScrapeError as error:
        return _fail(str(error))
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
        task = progress.add_task("beginning", total=chosen.requests)
        client.progress = lambda: progress.update(task, completed=client.sent)
        try:
            await run.begin()
            progress.update(task, description="calling")
            await run.mix(chosen.concurrency, chosen.requests, chosen.seconds)
        finally:
            if not chosen.keep:
                progress.update(task, description="removing what was made")
                await run.end()


def _report(run: Run, client: Client, before: Counter[Sample] | None, after: Counter[Sample] | None, *, shared: bool) -> bool:
    """Print the summary; whether the metrics are wrong."""
    from tools.load.check import counted, differences
    from tools.load.summary import summary

    moved = None if before is None or after is None else counted(before, after)
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
    """Begin no further call; the second time, end as ever."""
    client.stopped = True
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def _fail(line: str) -> int:
    print(f"tools.load: {line}", file=sys.stderr)
    return 1


def _bound(bind: str) -> str:
    """Return a URL of the first address in BIND."""
    address = Address.parse(bind.partition(",")[0])
    if not address.host:
        raise ValueError(f"BIND={bind!r} is not an address that can be called. Set --url.")
    host = {ANY: "127.0.0.1", ANY_IPV6: "::1"}.get(address.host, address.host)
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"


def _url(text: str) -> str:
    parts = urlsplit(text)
    with contextlib.suppress(ValueError):  # a port that is none
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return text.rstrip("/")
    raise ValueError(f"{text!r} is no address of a service: it must be http://host:port or https://host:port")


class _whole:  # noqa: N801 - called as a function
    """A whole number from 1 to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, text: str) -> int:
        number = int(text)
        if not 1 <= number <= self._most:
            raise argparse.ArgumentTypeError(f"must be from 1 to {self._most}")
        return number


class _number:  # noqa: N801 - as above
    """Seconds from 0 to `most`."""

    def __init__(self, most: float) -> None:
        self._most = most

    def __call__(self, text: str) -> float:
        number = float(text)
        if not 0 <= number <= self._most:
            raise argparse.ArgumentTypeError(f"must be seconds from 0 to {self._most:g}")
        return number


if __name__ == "__main__":
    main()
