"""Which module imports which: the contracts of pyproject.toml, and no circle of modules, imports for types and in functions included."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

from tests.conftest import ROOT


def test_the_contracts_are_kept() -> None:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("monitoring", "app", "tools", cache_dir=None)
    imported = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert len(imported) > 200
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the modules
