"""Compiles what runs for every request with mypyc, where there is a C compiler; the same files run interpreted everywhere else.

NEURECTOMY_COMPILE=0 leaves it, and NEURECTOMY_COMPILE=1 fails where it cannot be done, instead of going on without.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "monitoring/http"
MODULES = ("cells", "exchange", "templates")
"""Not `middleware` and `waiting`, which have the coroutines."""

_OPTIONS = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent")
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


class CompilingHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling finds it by this file's name."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the tree for an editable installation, else into the wheel."""
        wanted = os.environ.get("NEURECTOMY_COMPILE", "")
        if wanted not in {"", "0", "1"}:
            raise ValueError(f"NEURECTOMY_COMPILE={wanted!r}: 0 leaves the compiling, 1 insists on it, and empty tries")
        made = [] if wanted == "0" else self._made(insist=wanted == "1")
        if version == "editable":
            _place(made, Path(self.root, PACKAGE))
        elif made:
            build_data["force_include"].update({str(file): f"{PACKAGE}/{file.name}" for file in made})
            build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Remove what was made on the way."""
        shutil.rmtree(getattr(self, "_folder", ""), ignore_errors=True)

    def _made(self, *, insist: bool) -> list[Path]:
        self._folder = tempfile.mkdtemp(prefix="neurectomy-build-")
        try:
            return _compile(Path(self.root), Path(self._folder))
        except (Exception, SystemExit) as error:  # no mypyc, no compiler, no headers: each has an exception of its own
            if insist:
                shutil.rmtree(self._folder, ignore_errors=True)
                raise RuntimeError(f"NEURECTOMY_COMPILE=1, but {PACKAGE} could not be compiled: {error}") from error
            self.app.display_warning(f"{PACKAGE} is not compiled, and runs a few microseconds slower per request: {error}")
            return []


def _place(made: list[Path], package: Path) -> None:
    """Make these the extension modules beside the sources: each by a rename, since a worker of a running service may be starting."""
    for file in made:
        copy = package / f".{file.name}.new"
        shutil.copyfile(file, copy)
        copy.replace(package / file.name)
    for old in package.glob("*.so"):
        if old.name not in {file.name for file in made}:
            old.unlink()


def _compile(root: Path, folder: Path) -> list[Path]:
    """Give the files of the extension modules, made in `folder`."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") or sys.implementation.name != "cpython":
        raise RuntimeError("only CPython with its global lock runs it")
    from mypyc.build import mypycify
    from setuptools import Distribution

    before = Path.cwd()
    os.chdir(root)  # mypyc takes a module's name from its path
    try:
        sources = [f"{PACKAGE}/{module}.py" for module in MODULES]
        options = [*_OPTIONS, f"--cache-dir={folder / 'types'}"]
        modules = mypycify([*options, *sources], target_dir=str(folder / "c"), group_name=f"{PACKAGE.replace('/', '.')}.compiled")
        command = Distribution({"name": "compiled", "ext_modules": modules}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    return sorted(Path(folder, "lib").rglob(f"*{_SUFFIX}"))
