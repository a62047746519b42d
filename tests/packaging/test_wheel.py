"""The wheel has every file of the packages that git has, and no other."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT, built_environment
from tests.processes import PATIENCE_SECONDS

#: The top-level folders of the wheel, beside the one with its metadata.
PACKAGES = {"app", "monitoring"}
#: Folders of the repository that are not shipped, whether they exist yet or not.
NOT_SHIPPED = {"benchmarks", "docs", "k8s", "systemd", "tests", "tools"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build a wheel of this tree; return its files."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    environment = built_environment() | {"NEURECTOMY_COMPILE": "0"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=5 * PATIENCE_SECONDS)
    (made,) = folder.glob("*-none-any.whl")
    with zipfile.ZipFile(made) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def repository_files() -> set[str]:
    """List what git has or would add: a new file may be tested before it is added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return {name for name in listed if name and (ROOT / name).is_file()}


def top(name: str) -> str:
    return name.partition("/")[0]


def test_folders_of_the_wheel(wheel: list[str]) -> None:
    folders = {top(name) for name in wheel}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == PACKAGES
    assert not folders & NOT_SHIPPED


def test_every_folder_of_the_repository_is_shipped_or_is_not() -> None:
    folders = {top(name) for name in repository_files() if "/" in name}
    assert {folder for folder in folders if not folder.startswith(".")} <= PACKAGES | NOT_SHIPPED


def test_files_of_the_wheel(wheel: list[str]) -> None:
    found = sorted(name for name in wheel if not top(name).endswith(".dist-info"))
    assert found == sorted(name for name in repository_files() if top(name) in PACKAGES)
