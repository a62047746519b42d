"""What a scrape shows of the devices, and what it has to show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Driver

FAMILIES = {
    "ryot_gpu_memory_usage_bytes": 0,
    "gpu_memory_total_bytes": 1,
    "gpu_utilization_ratio": 2,
    "gpu_temperature_celsius": 3,
    "gpu_power_watts": 4,
}
SCALE = {"gpu_utilization_ratio": 100, "gpu_power_watts": 1000}
NOTHING: dict[str, dict[tuple[str, ...], float]] = {family: {} for family in FAMILIES}


def shown(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Every GPU family's series by the values of their labels; one that comes twice fails, and so does a second head."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    heads = [line for line in text.splitlines() if re.match(r"# (HELP|TYPE) \w*gpu_", line)]
    assert len(heads) == len({tuple(line.split()[:3]) for line in heads}), heads
    for line in text.splitlines():
        if match := re.fullmatch(r"neurectomy_(\w*gpu_\w+)\{(.*)\} (\S+)", line):
            labels = tuple(part.split('"')[1] for part in match[2].split(","))
            assert labels not in found.setdefault(match[1], {}), line
            found[match[1]][labels] = float(match[3])
    return found


def of_devices(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The families of devices alone."""
    return NOTHING | {family: series for family, series in shown(text).items() if family in FAMILIES}


def expected(devices: range, driver: Driver) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family: {(str(number), f"GPU-{number}"): driver.numbers(number)[place] / SCALE.get(family, 1) for number in devices}
        for family, place in FAMILIES.items()
    }


def await_shown(scrape: Callable[[], str], wanted: dict[str, dict[tuple[str, ...], float]]) -> None:
    wait_until(lambda: of_devices(scrape()) == wanted, f"{wanted}, not {shown(scrape())}")


def problems(text: str) -> dict[str, float]:
    return {reason: value for (reason,), value in shown(text).get("gpu_problems", {}).items() if value}
