"""A stand-in for the driver's library, built for these tests, and the devices that it shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

DEVICES = 8


@dataclass
class Driver:
    """The stand-in: what it is told in files it answers from then on."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {"LD_LIBRARY_PATH": str(self.folder), "NVML_STUB": str(self.folder)}

    def tell(self, name: str, content: object) -> None:
        """Say something else, in one step."""
        temporary = self.folder / f"{name}.new"
        temporary.write_text(f"{content}\n")
        temporary.replace(self.folder / name)

    def device(self, number: int, *numbers: int, lost: int = 0) -> None:
        """Show a device: used, total, percent, degrees, milliwatts; from which question on it is lost."""
        self.tell(f"d{number}", " ".join(map(str, (f"GPU-{number}", *(numbers or self.numbers(number)), lost))))

    @staticmethod
    def numbers(number: int) -> tuple[int, int, int, int, int]:
        """What a device shows if nothing else is said."""
        return (1000 + number, 80_000, 10 * number, 40 + number, 250_000 + number)

    def processes(self, number: int, sizes: Mapping[int, int]) -> None:
        """Who uses how much of a device."""
        self.tell(f"p{number}", "\n".join(f"{pid} {size}" for pid, size in sizes.items()))

    def polls(self) -> list[int]:
        """The process of each reading."""
        path = self.folder / "polls"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        assert os.environ.get("CI") != "true", "CI has to build the stand-in for the driver: apt-get install gcc libc6-dev"
        pytest.skip("no C compiler here: apt-get install --no-install-recommends gcc libc6-dev")
    built = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", str(built), str(Path(__file__).with_name("nvml.c"))]
    subprocess.run(command, check=True)
    return built


@pytest.fixture
def driver(library: Path, tmp_path: Path) -> Driver:
    folder = tmp_path / "driver"
    folder.mkdir()
    shutil.copy(library, folder)
    return Driver(folder)


@pytest.fixture
def all_devices(driver: Driver) -> Driver:
    driver.tell("count", DEVICES)
    for number in range(DEVICES):
        driver.device(number)
    return driver
