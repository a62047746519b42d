"""Where Prometheus, Alertmanager and their tools are on this machine."""

from __future__ import annotations

import shutil

#: The names of each program, and its package in Debian.
_PROGRAMS = {
    "prometheus": (("prometheus",), "prometheus"),
    "promtool": (("promtool",), "prometheus"),
    "alertmanager": (("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager"),
    "amtool": (("amtool",), "prometheus-alertmanager"),
}


class MissingError(Exception):
    """A program is not installed. The message has the command that installs it."""


def find(name: str) -> str:
    """Return the path of a program. MissingError where it is not on PATH."""
    names, package = _PROGRAMS[name]
    for each in names:
        found = shutil.which(each)
        if found is not None:
            return found
    raise MissingError(f"{name}: not on PATH. Install it: apt-get install --no-install-recommends {package}")
