"""Compiles the modules that run for every request with mypyc. Without a C compiler the same files run interpreted.

NEURECTOMY_COMPILE=0 compiles nothing. NEURECTOMY_COMPILE=1 fails if compiling fails, instead of going on without.
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
MODULES = ("exchange", "request_metrics", "route_template")
"""`middleware` and `awaitables` are left out: they have coroutines."""

_LIBRARY = "compiled"
_OPTIONS = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent")
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


class CompilingHook(BuildHookInterface):  # type: ignore[type-arg]
    """The hook that hatchling finds by this file's name."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the requirements of an isolated build."""
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        possible = shutil.which(compiler.split()[0]) is not None and _wanted() != "0"
        return ["mypy>=2.4", "setuptools>=80"] if possible or _wanted() == "1" else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the tree for an editable installation, otherwise into the wheel."""
        package = Path(self.root, PACKAGE)
        self._folder = tempfile.TemporaryDirectory(prefix="neurectomy-build-", ignore_cleanup_errors=True)
        made: list[Path] = []
        if _wanted() != "0":
            try:
                made = _compile(Path(self.root), Path(self._folder.name))
                if version == "editable":
                    _place(made, package)
            except (Exception, SystemExit) as error:  # no mypyc, no compiler, no headers, full disk: all have different exceptions
                if _wanted() == "1":
                    raise RuntimeError(f"NEURECTOMY_COMPILE=1, but {PACKAGE} could not be compiled: {error}") from error
                self.app.display_warning(f"{PACKAGE} is not compiled, and runs a few microseconds slower per request: {error}")
                made = []
        if version == "editable":
            # Files of another Python in the same tree stay.
            for old in package.glob(f"*{_SUFFIX}"):
                if old.name not in {file.name for file in made}:
                    old.unlink()
        elif made:
            build_data["force_include"].update({str(file): f"{PACKAGE}/{file.name}" for file in made})
            build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary files."""
        self._folder.cleanup()


def _wanted() -> str:
    wanted = os.environ.get("NEURECTOMY_COMPILE", "")
    if wanted not in {"", "0", "1"}:
        raise ValueError(f"NEURECTOMY_COMPILE={wanted!r}: use 0 (never compile), 1 (fail if it fails) or nothing")
    return wanted


def _compile(root: Path, folder: Path) -> list[Path]:
    """Compile in `folder`, and return the files: first the library that all extension modules need."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") or sys.implementation.name != "cpython":
        raise RuntimeError("it needs CPython with the global interpreter lock")
    from mypyc.build import mypycify
    from setuptools import Distribution

    before = Path.cwd()
    os.chdir(root)  # mypyc takes a module's name from its path
    try:
        sources = [f"{PACKAGE}/{module}.py" for module in MODULES]
        # A source that is edited from now on is newer than the compiled file.
        newest = max(Path(source).stat().st_mtime_ns for source in sources)
        options = [*_OPTIONS, f"--cache-dir={folder / 'types'}"]
        modules = mypycify([*options, *sources], target_dir=str(folder / "c"), group_name=f"{PACKAGE.replace('/', '.')}.{_LIBRARY}")
        command = Distribution({"name": _LIBRARY, "ext_modules": modules}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    made = sorted(Path(folder, "lib").rglob(f"*{_SUFFIX}"), key=lambda file: not file.name.startswith(_LIBRARY))
    if len(made) != len(MODULES) + 1:
        raise RuntimeError(f"expected {len(MODULES) + 1} files that end with {_SUFFIX}, found {[file.name for file in made]}")
    for file in made:
        os.utime(file, ns=(newest, newest))
    return made


def _place(made: list[Path], package: Path) -> None:
    """Put the extension modules beside the sources, each by a rename, since a worker of a running service may be starting."""
    copies = [package / f".{file.name}.{os.getpid()}.new" for file in made]
    try:
        for file, copy in zip(made, copies, strict=True):
            shutil.copy2(file, copy)
        for file, copy in zip(made, copies, strict=True):
            copy.replace(package / file.name)
    finally:
        for copy in copies:
            copy.unlink(missing_ok=True)
