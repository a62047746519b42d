"""The names of the files in a metrics directory: built and parsed in one module, and spelled nowhere else."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

from monitoring.multiprocess import paths
from tests.conftest import ROOT

#: What only `paths` may spell: whole names, and the suffixes by which names are built and recognised.
NAMES = {value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)} | {"collected"}
SUFFIXES = re.compile(r"\.(db|tmp|state|users)\b|_s$|_s\\d|_s\[0|^_scrapes")
#: Files of the service that have nothing to do with a metrics directory.
OTHERS = {("app/settings.py", "neurectomy.db")}
GAUGE_MODES = ("all", "liveall", "livemax", "livemin", "livemostrecent", "livesum", "max", "min", "mostrecent", "sum")


def spelled(path: Path) -> set[str]:
    """The texts of a program that are file names: those of its string literals but docstrings."""
    tree = ast.parse(path.read_text())
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    statements = [node for body in bodies for node in body if isinstance(node, ast.Expr)]
    docstrings = {id(node.value) for node in statements}
    literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings}
    texts = {value for value in literals if isinstance(value, str)}
    return {text for text in texts if text.strip("*") in NAMES or SUFFIXES.search(text) or any(f"/{name}" in text for name in NAMES)}


def test_no_other_module_spells_a_file_name() -> None:
    files = chain(*((ROOT / folder).rglob("*.py") for folder in ("monitoring", "app", "tools")), [ROOT / "gunicorn_conf.py"])
    found = {(str(file.relative_to(ROOT)), text) for file in files for text in spelled(file)}
    ours = {entry for entry in found if entry[0] == "monitoring/multiprocess/storage/paths.py"}
    assert {text for _, text in ours} >= NAMES - {"collected"}
    assert found - ours == OTHERS


@pytest.mark.parametrize("prefix", ["counter", "histogram", "summary", *(f"gauge_{mode}" for mode in GAUGE_MODES)])
@pytest.mark.parametrize("slot", [0, 7, 1048575])
def test_a_value_file_is_parsed_as_it_was_named(prefix: str, slot: int) -> None:
    name = paths.parse_value_file(paths.value_file(prefix, slot))
    assert name is not None
    assert (name.prefix, name.identifier, name.slot) == (prefix, f"s{slot}", slot)
    assert f"{name.type}_{name.mode}".rstrip("_") == prefix


def test_files_of_other_writers_have_no_slot() -> None:
    assert paths.parse_value_file("counter_123.db") == ("counter", "", "123")
    assert paths.parse_value_file("histogram_a_s3.db") == ("histogram", "", "a_s3")
    for name in (
        paths.scrapes_file("counter", 3),
        "counter_123.db",
        "histogram_a_s3.db",
        "counter_s.db",
        "counter_sx.db",
        "counter_s-1.db",
    ):
        assert paths.parse_value_file(name) is not None
        assert paths.slot_of(name) is None


@pytest.mark.parametrize(
    "name", ["gauge_s1.db", "gauge_average_s1.db", "gauge_sum_a_s1.db", "untyped_s1.db", "counter.db", "counter_s1.tmp", "counter_s1"]
)
def test_a_name_of_another_form_is_not_a_value_file(name: str) -> None:
    assert paths.parse_value_file(name) is None
    assert paths.slot_of(name) is None


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("counter_s0.db", True),
        ("x.db", True),
        ("counter_s0.tmp", True),
        (paths.state_file("breaker-0123456789abcdef"), True),
        (paths.FAMILIES, True),
        (paths.SHARED_SNAPSHOT, True),
        (paths.own_snapshot(12), True),
        ("collected_s.json", False),
        ("other.json", False),
        (paths.LOCK, False),
        (paths.RUN, False),
        (paths.SERIES_LOG, False),
        (paths.EXPORTER_SOCKET, False),
        (paths.users_file(0), False),
    ],
)
def test_a_new_run_removes_what_belongs_to_the_last(name: str, ends: bool) -> None:
    assert paths.ends_with_run(name) is ends


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("gauge_all_s3.db", True),
        ("gauge_livesum_s3.db", True),
        ("gauge_livemostrecent_s3.db", True),
        ("counter_s3.tmp", True),
        (paths.own_snapshot(3), True),
        ("gauge_sum_s3.db", False),
        ("counter_s3.db", False),
        ("gauge_livesum_s33.db", False),
        ("gauge_livesum_s13.db", False),
        ("gauge_livesum_3.db", False),
        ("counter_s33.tmp", False),
        (paths.own_snapshot(33), False),
        (paths.SHARED_SNAPSHOT, False),
    ],
)
def test_the_next_holder_of_a_slot_continues_all_but_live_values(name: str, ends: bool) -> None:
    assert paths.ends_with_worker(name, 3) is ends


def test_every_name_that_is_built_is_recognised_as_the_librarys() -> None:
    built = {paths.value_file("gauge_livesum", 3), paths.scrapes_file("counter", 3), paths.own_snapshot(3), paths.users_file(3)}
    built |= {paths.state_file("breaker-0123456789abcdef"), paths.temporary(Path(paths.RUN)).name}
    for name in built | {paths.LOCK, paths.RUN, paths.FAMILIES, paths.SERIES_LOG, paths.SHARED_SNAPSHOT, paths.EXPORTER_SOCKET}:
        assert paths.is_ours(name), name
    for name in ("notes.txt", ".bashrc", "id_rsa", "Counter_s0.db", "counter_s0.db\n"):
        assert not paths.is_ours(name), name
