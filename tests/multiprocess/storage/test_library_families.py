"""The library's own families have one HELP and one type, in whatever process and state they are shown."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from monitoring.multiprocess import MergedCollector, library_families
from monitoring.multiprocess.storage.library_families import LibraryFamily
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ALL = {family.name: family for family in vars(library_families).values() if isinstance(family, LibraryFamily)}
#: What is shown of a directory in which a worker has taken a slot, counted the series of a family that is full, and written.
WORKER = """
from monitoring import multiprocess
multiprocess.install(max_series=1)
from monitoring.multiprocess.worker.election import Election
Election("a role").try_hold()
from prometheus_client import Counter
counter = Counter("c", "help", ["l"])
"""
WRITES = WORKER + "[counter.labels(text).inc() for text in 'ab']\n"
#: A worker whose directory has room for nothing: no slot is taken, and the library's own counter is not attached.
NEVER_ATTACHED = WORKER


def shown(directory: Path) -> dict[str, tuple[str, str]]:
    """HELP and type of each family that a scrape shows, the same in both formats."""
    view = MergedCollector(None, str(directory))
    view.render()
    classic = {family.name: (family.documentation, family.type) for family in parse_classic(view.render().decode())}
    openmetrics = {family.name: (family.documentation, family.type) for family in parse_openmetrics(view.render(openmetrics=True).decode())}
    assert classic == openmetrics
    return {name: found for name, found in classic.items() if name.startswith("multiproc_")}


def execute(program: str, environment: dict[str, str], directory: Path) -> None:
    environment = environment | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("program", [WRITES, NEVER_ATTACHED], ids=["attached", "not attached"])
def test_a_family_looks_the_same_whether_or_not_a_worker_has_attached_it(
    metrics_directory: Path, environment: dict[str, str], program: str
) -> None:
    execute(program, environment, metrics_directory)
    found = shown(metrics_directory)
    assert library_families.DROPPED.name in found
    assert (metrics_directory / "counter_s0.db").exists() is (program is WRITES)
    for name, family in ALL.items():
        if name in found:
            assert found.pop(name) == (family.help, family.type), name
    assert not found, "every family is declared"


def test_a_worker_and_its_views_show_every_family(metrics_directory: Path, environment: dict[str, str]) -> None:
    execute(WRITES, environment, metrics_directory)
    assert shown(metrics_directory).keys() == ALL.keys()


def test_the_declarations_import_nothing_of_the_library() -> None:
    program = "import sys; from monitoring.multiprocess import library_families; print(*[m for m in sys.modules if 'monitoring' in m])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not any(part in name for name in loaded for part in (".worker", ".merge", ".patches", ".sampling", ".linux"))
