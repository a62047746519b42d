"""The dashboards have the shapes that Grafana's own types ask for: `tsc` against `@grafana/schema`, and it tells what is misspelt."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT
from tests.grafana.boards import BOARDS

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
FILES = ("package.json", "package-lock.json", ".npmrc")
#: What npm says where the registry cannot be asked; anything else that goes wrong is ours.
UNREACHABLE = re.compile(r"\b(EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ENOTCACHED|ENOTFOUND|EHOSTUNREACH|ETIMEDOUT|E40[134]|E5\d\d)\b")
OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "--target", "esnext")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with what the lock names, installed once for as long as the lock is the same."""
    npm = shutil.which("npm")
    if npm is None:
        assert os.environ.get("CI") != "true", "CI has to check the dashboards' types: apt-get install npm"
        pytest.skip("no npm here: apt-get install --no-install-recommends npm")
    locked = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    kept = (ROOT if os.access(ROOT, os.W_OK) else tmp_path_factory.mktemp("npm")) / ".npm"
    folder = kept / locked
    if not folder.exists():
        # Under another name first: a run beside us, or one that is killed, leaves no half of it.
        made = kept / f"{locked}.{uuid.uuid4().hex}"
        made.mkdir(parents=True)
        for name in FILES:
            shutil.copy(HERE / name, made)
        try:
            done = subprocess.run([npm, "ci"], cwd=made, capture_output=True, text=True, check=False)
            if done.returncode and os.environ.get("CI") != "true" and UNREACHABLE.search(done.stderr):
                pytest.skip(f"npm cannot fetch @grafana/schema and typescript here: {done.stderr.splitlines()[0]}")
            assert done.returncode == 0, done.stderr
            with contextlib.suppress(OSError):  # another was faster
                made.rename(folder)
            assert folder.exists()
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


@pytest.fixture
def check(packages: Path, tmp_path: Path) -> Callable[[dict[str, dict[str, Any]]], dict[str, str]]:
    """Check dashboards by their names; gives what is wrong with each that has a fault."""

    def run(boards: dict[str, dict[str, Any]]) -> dict[str, str]:
        (tmp_path / "node_modules").symlink_to(packages / "node_modules")
        shutil.copy(HERE / "shapes.ts", tmp_path)
        for name, board in boards.items():
            text = f'import type {{ Board }} from "./shapes";\nexport const board: Board = {json.dumps(board, indent=1)};\n'
            (tmp_path / f"{name}.ts").write_text(text)
        command = ["node", "node_modules/typescript/bin/tsc", *OPTIONS, *(f"{name}.ts" for name in boards)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        faults = re.findall(r"^([\w-]+)\.ts\(\d+,\d+\): error (.*)$", done.stdout, re.MULTILINE)
        assert bool(faults) == bool(done.returncode), done.stdout + done.stderr
        return dict(faults)

    return run


def test_the_dashboards_have_grafanas_shapes(check: Callable[[dict[str, dict[str, Any]]], dict[str, str]]) -> None:
    assert check(BOARDS) == {}


def test_a_misspelt_dashboard_is_told(check: Callable[[dict[str, dict[str, Any]]], dict[str, str]]) -> None:
    def spoilt(path: str, value: object) -> dict[str, Any]:
        """Put a value at a path; the first panel of a type may stand in it."""
        board = copy.deepcopy(BOARDS["agent-collective"])
        found: Any = board
        *parents, last = path.split("/")
        for part in parents:
            if part in {"stat", "timeseries", "state-timeline", "row"}:
                found = next(panel for panel in found if panel["type"] == part)
            else:
                found = found[int(part)] if part.isdecimal() else found[part]
        if value is None:
            del found[last]
        else:
            found[last] = value
        return board

    faults: dict[str, tuple[str, object]] = {
        "dashboard": ("refrehs", "30s"),
        "dashboard-value": ("graphTooltip", "crosshair"),
        "variable": ("templating/list/1/allValues", ".*"),
        "variable-type": ("templating/list/1/type", "qurey"),
        "link": ("links/0/type", "dashboard"),
        "row": ("panels/row/colapsed", False),
        "panel-type": ("panels/stat/type", "state"),
        "panel-place": ("panels/stat/gridPos/w", "6"),
        "panel-text": ("panels/stat/description", None),
        "stat": ("panels/stat/options/graphMode", "aera"),
        "stat-missing": ("panels/stat/options/textMode", None),
        "graph": ("panels/timeseries/options/legend/displayMode", "tabel"),
        "graph-field": ("panels/timeseries/fieldConfig/defaults/custom/linewidth", 1),
        "timeline": ("panels/state-timeline/options/rowHeight", "0.9"),
        "unit": ("panels/timeseries/fieldConfig/defaults/unit", None),
        "threshold": ("panels/timeseries/fieldConfig/defaults/thresholds/steps/0/colour", "green"),
        "query": ("panels/timeseries/targets/0/legend", "x"),
        "query-missing": ("panels/timeseries/targets/0/refId", None),
        "datasource": ("panels/timeseries/targets/0/datasource/uid", "prometheus"),
    }
    found = check({name: spoilt(path, value) for name, (path, value) in faults.items()})
    assert set(faults) - set(found) == set()
