"""Files that are not what they should be cost at most their own series, and never a scrape."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import wait_until

from .client import Client
from .scraper import Samples, Scraper, parse, total, view
from .verdict import assert_exact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .bare_writers import Bare, Writers
    from .harness import Harness, Variant

HEADER = struct.Struct("i")
FIRST_BYTES, SAMPLED_OFFSETS = 80, 300


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def text(path: Path) -> None:
    path.write_bytes(b"this is not a value file\n" * 50)


def huge_used(path: Path) -> None:
    path.write_bytes(HEADER.pack(2**31 - 8) + bytes(4) + HEADER.pack(2**31 - 64) + bytes(5000))


def negative_used(path: Path) -> None:
    path.write_bytes(HEADER.pack(-64) + bytes(5000))


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def endless_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


BAD = (empty, garbage, text, huge_used, negative_used, directory, fifo, link, dangling_link, endless_link)
# A former holder's slot, a pid as upstream names it, and names that nobody gives.
NAMES = ("counter_s7.db", "gauge_livesum_s7.db", "histogram_4711.db", "x.db", "a_b_c_d.db", "counter.db")


@pytest.fixture
def good(writers: Writers) -> Bare:
    """Start a writer whose samples have to stay whole beside every bad file."""
    writer = writers.start()
    writer.ask("inc", "a", 7)
    writer.ask("observe", 3)
    writer.ask("gauge", 4)
    return writer


def assert_good(samples: Samples) -> None:
    """The good writer's samples, whole."""
    assert total(samples, "bare_things_total") == 7
    assert total(samples, "bare_sizes_count") == 1
    assert total(samples, "bare_alive") == 1
    assert total(samples, "bare_level") == 4


@pytest.mark.parametrize("make", BAD)
@pytest.mark.usefixtures("good")
def test_bad_file_beside_good_ones(writers: Writers, make: Callable[[Path], None]) -> None:
    """Whatever lies in the directory, the view answers, says so, and shows all else."""
    look = view(writers.directory)
    assert_good(parse(look())[0])
    for name in NAMES:
        path = writers.directory / name
        make(path)
        for scrape in (look, view(writers.directory)):
            samples = parse(scrape())[0]
            assert_good(samples)
            assert total(samples, "multiproc_bad_files") == 1, f"{name} was not counted"
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        assert total(parse(look())[0], "multiproc_bad_files") == 0, f"{name} is counted after it went"


def test_unreadable_file(writers: Writers, good: Bare) -> None:
    """A file that the reader may not open; for root every file is readable, so the reader is another user."""
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI has to change the user: run it as root"
        pytest.skip("needs root to read as another user")
    del good
    path = writers.directory / "counter_s7.db"
    shutil.copy(next(writers.directory.glob("counter_s*.db")), path)
    for entry in writers.directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a temporary name, put in place since
            entry.chmod(0o644)
    writers.directory.chmod(0o755)
    path.chmod(0)
    code = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from monitoring.multiprocess import MergedCollector\n"
        "from prometheus_client import CollectorRegistry\n"
        f"print(MergedCollector(CollectorRegistry(), {str(writers.directory)!r}).render().decode())"
    )
    preload = "import numpy, orjson, prometheus_client, prometheus_client.openmetrics.exposition, monitoring.multiprocess.merge.collector\n"
    result = subprocess.run(
        [sys.executable, "-c", preload + code],
        env=writers.environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    samples = parse(result.stdout)[0]
    assert total(samples, "bare_things_total") == 7
    assert total(samples, "multiproc_bad_files", reason="unreadable") == 1


@pytest.mark.usefixtures("good")
def test_truncated_at_any_offset(writers: Writers) -> None:
    """A value file cut at any byte costs at most its own series: a sample of them, and in `make proof` all."""
    whole = next(writers.directory.glob("counter_s*.db")).read_bytes()
    used = HEADER.unpack_from(whole)[0]
    path = writers.directory / "counter_s7.db"
    look = view(writers.directory)
    kinds: set[float] = set()
    sizes = {*range(FIRST_BYTES), *range(used - FIRST_BYTES, used + 1), *random.sample(range(used), min(used, SAMPLED_OFFSETS))}
    for size in range(used + 1) if "PROOF_REPEATS" in os.environ else sorted(sizes):
        path.write_bytes(whole[:size])
        fresh, running = parse(view(writers.directory)())[0], parse(look())[0]
        for samples in (fresh, running):
            assert total(samples, "bare_things_total") in {7, 14}, f"cut at {size}"
            assert total(samples, "bare_sizes_count") == 1
        bad = total(fresh, "multiproc_bad_files")
        assert bad == (0 if size == used else 1), f"cut at {size}"
        kinds.add(bad)
        path.unlink()
    assert kinds == {0, 1}
    path.write_bytes(whole[:used])
    assert total(parse(view(writers.directory)())[0], "bare_things_total") == 14


@pytest.fixture
def dead(writers: Writers, good: Bare) -> Path:
    """Give the counter file of a writer that died while the run goes on."""
    writer = writers.start()
    writer.ask("inc", "early", 5)
    writer.ask("inc", "late", 3)
    known = {entry.name for entry in writers.directory.iterdir()}
    assert good.process.poll() is None
    writer.kill()
    path = writers.directory / "counter_s1.db"
    assert path.name in known
    return path


def turned(writers: Writers, dead: Path, damage: bytes) -> tuple[Samples, Samples]:
    """Show a view the good file, damage it, and show it to the same view; then let the next holder take it."""
    look = view(writers.directory)
    before = parse(look())[0]
    assert total(before, "bare_things_total") == 15
    dead.write_bytes(damage)
    during = parse(look())[0]
    assert total(during, "bare_things_total") == 15, "a view keeps what it read"
    assert total(during, "multiproc_bad_files") == 1
    heir = writers.start()
    heir.ask("inc", "early", 1)
    after = parse(look())[0]
    assert total(after, "bare_things_total") >= 15, "nothing falls when the next holder comes"
    return after, writers.samples()


def test_good_file_that_is_cut(writers: Writers, dead: Path) -> None:
    """The view keeps its last values; the next holder salvages the records before the damage."""
    whole = dead.read_bytes()
    cut = whole.index(b'"late"') + 20
    running, fresh = turned(writers, dead, whole[:cut])
    assert total(fresh, "bare_things_total", kind="early") == 6, "salvaged and continued"
    assert total(fresh, "bare_things_total", kind="a") == 7
    assert total(running, "bare_things_total", kind="early") == 6


def test_good_file_that_becomes_garbage(writers: Writers, dead: Path) -> None:
    """Nothing can be salvaged; the view that knew it loses nothing."""
    _, fresh = turned(writers, dead, b"\xff" * 300)
    assert total(fresh, "bare_things_total", kind="a") == 7


def test_good_file_that_vanishes(writers: Writers, dead: Path) -> None:
    """A view keeps a counter file that somebody removed; nothing falls when the slot is taken again."""
    look = view(writers.directory)
    assert total(parse(look())[0], "bare_things_total") == 15
    dead.unlink()
    assert total(parse(look())[0], "bare_things_total") == 15
    heir = writers.start()
    heir.ask("inc", "early", 1)
    assert total(parse(look())[0], "bare_things_total") == 16
    assert total(writers.samples(), "bare_things_total") == 8


def test_bad_files_under_a_serving_service(harness: Harness, variant: Variant) -> None:
    """Scrapes by the exporter go on, and the requests of the good workers stay exact."""
    server = harness.gunicorn(variant)
    with Scraper(server.scrape) as scraper, Client(server.address) as client:
        client.wait_answered(50)
        for number, make in enumerate(BAD):
            make(harness.directory / f"counter_s{40 + number}.db")
            client.wait_answered(10)
        seen = len(scraper.history)
        client.wait_answered(50)
        wait_until(lambda: len(scraper.history) >= max(3, seen + 1), "scrapes beside the bad files")
        assert total(server.samples(), "multiproc_bad_files") == len(BAD)
    scraper.check()
    assert_exact(server.samples(), client.tally)
