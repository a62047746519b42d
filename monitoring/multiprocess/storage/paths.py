"""The names of the files in a metrics directory. No other module spells one.

A value file is named as prometheus-client names its own: `<type>[_<mode>]_<identifier>.db`. The identifier is `s<slot>` for a worker,
`scrapes<n>` for a merging process, and a process id where prometheus-client itself wrote the file. This module imports nothing of
the library, so that a process that only needs a name loads no other module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "lease.lock"
RUN = "run.json"
FAMILIES = "families.json"
SERIES_LOG = "series.log"
#: The snapshot of the custom collectors that one process calls for all.
SHARED_SNAPSHOT = "collected.json"
#: The socket on which an exporter answers workers.
EXPORTER_SOCKET = "exporter.sock"

_VALUES = ".db"
#: A file that is renamed to its final name once it is complete.
TEMPORARY = ".tmp"
#: A file whose content belongs to a run: it is removed with the value files.
_STATE = ".state"
#: A table of the users that a worker has seen. It outlives the run, until its notes are taken.
USERS = ".users"
_MODES = "all|min|max|sum|mostrecent|liveall|livemin|livemax|livesum|livemostrecent"
_VALUE_FILE = re.compile(rf"(?:(counter|histogram|summary)_(.*)|(gauge)_({_MODES})_([^_]*))\.db", re.DOTALL)
_SLOT = re.compile(r"s([0-9]+)")
_SNAPSHOT = re.compile(r"collected(_s[0-9]+)?\.json")
#: The form of all these names.
_OURS = re.compile(r"[a-z0-9_.-]+\.(db|json|lock|log|sock|state|tmp|users)")


class ValueFileName(NamedTuple):
    """The parts of a value file's name."""

    type: str
    mode: str
    identifier: str

    @property
    def prefix(self) -> str:
        """The type with a gauge's mode: `counter`, `gauge_livesum`."""
        return f"{self.type}_{self.mode}" if self.mode else self.type

    @property
    def slot(self) -> int | None:
        """The slot whose worker writes the file; None for a file that no worker of this library writes."""
        found = _SLOT.fullmatch(self.identifier)
        return int(found[1]) if found else None


def value_file(prefix: str, slot: int) -> str:
    """Return the name of a worker's file for values of one type (and gauge mode)."""
    return f"{prefix}_s{slot}{_VALUES}"


def scrapes_file(kind: str, number: int) -> str:
    """Return the name of the file in which a merging process counts its merges."""
    return f"{kind}_scrapes{number}{_VALUES}"


def parse_value_file(name: str) -> ValueFileName | None:
    """Return the parts of a value file's name; None for any other name."""
    found = _VALUE_FILE.fullmatch(name)
    if found is None:
        return None
    kind, identifier, gauge, mode, gauge_identifier = found.groups()
    return ValueFileName(gauge, mode, gauge_identifier) if gauge else ValueFileName(kind, "", identifier)


def slot_of(name: str) -> int | None:
    """Return the slot of a worker's value file; None for any other name."""
    found = parse_value_file(name)
    return None if found is None else found.slot


def is_value_file(name: str) -> bool:
    """Return whether a file is meant to hold values, be its name otherwise right or wrong."""
    return name.endswith(_VALUES)


def own_snapshot(slot: int) -> str:
    """Return the name of the snapshot of one worker's own collectors."""
    return f"collected_s{slot}.json"


def state_file(name: str) -> str:
    """Return the name of a file that lasts for one run."""
    return f"{name}{_STATE}"


def users_file(number: int) -> str:
    """Return the name of one table of users."""
    return f"{number}{USERS}"


def temporary(path: Path) -> Path:
    """Return the path at which the new content of a file is written before it is renamed to `path`."""
    return path.with_suffix(TEMPORARY)


def ends_with_run(name: str) -> bool:
    """Return whether a file is removed when a new run starts."""
    return name.endswith((_VALUES, TEMPORARY, _STATE)) or name == FAMILIES or _SNAPSHOT.fullmatch(name) is not None


def ends_with_worker(name: str, slot: int) -> bool:
    """Return whether a file means nothing to the next holder of its slot: live gauges, the collectors' snapshot, half-written files."""
    found = parse_value_file(name)
    if found is not None and found.slot == slot:
        return found.mode == "all" or found.mode.startswith("live")
    return name == own_snapshot(slot) or name.endswith(f"_s{slot}{TEMPORARY}")


def is_ours(name: str) -> bool:
    """Return whether the library may have made a file of this name."""
    return _OURS.fullmatch(name) is not None
