"""requirements-runtime.lock, of which the image is made, and requirements.lock, with which it is tested."""

from __future__ import annotations

import importlib.metadata
import tomllib

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

EXTRAS = ("view", "gpu", "postgresql")
"""What the image's processes may import beyond the project's own requirements."""


def locked(name: str) -> dict[str, str]:
    """Give each requirement, with its marker, and its hashes."""
    lines = (ROOT / name).read_text().replace("\\\n", "").splitlines()
    return {requirement.strip(): " ".join(hashes.split()) for requirement, _, hashes in (line.partition(" --hash=") for line in lines)}


def needed() -> set[str]:
    """Follow what the project asks for on this machine, through what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in EXTRAS for each in project["optional-dependencies"][extra])]
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(each), "") for each in asked]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for more in ("", *requirement.extras):
            if (name, more) not in found:
                found.add((name, more))
                waiting += [(Requirement(each), more) for each in importlib.metadata.requires(name) or []]
    return {name for name, _ in found}


def test_the_image_gets_the_versions_that_are_tested() -> None:
    tested, image = locked("requirements.lock"), locked("requirements-runtime.lock")
    assert len(image) > 30
    assert {requirement: tested.get(requirement) for requirement in image} == image


def test_the_image_gets_what_the_service_needs_and_nothing_else() -> None:
    here = [each.partition(";") for each in locked("requirements-runtime.lock")]
    applies = {canonicalize_name(pin.partition("==")[0]) for pin, _, marker in here if not marker or Marker(marker.strip()).evaluate()}
    assert applies == needed()
