"""Where Prometheus, Alertmanager and their tools are on this machine."""

from __future__ import annotations

import shutil

#: What it may be called, and Debian's package.
_PROGRAMS = {
    "prometheus": (("prometheus",), "prometheus"),
    "promtool": (("promtool",), "prometheus"),
    "alertmanager": (("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager"),
    "amtool": (("amtool",), "prometheus-alertmanager"),
}


class MissingError(Exception):
    """A program is not here; the text says how to install it."""


def find(name: str) -> str:
    """Give the path of a program. MissingError where it is not on PATH."""
    names, package = _PROGRAMS[name]
    for each in names:
        found = shutil.which(each)
        if found is not None:
            return found
    raise MissingError(f"{name} is not here: apt-get install --no-install-recommends {package}")
