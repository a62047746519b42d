"""Which process reads the devices: a worker, or the exporter. For an exporter, which has the environment and no settings."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "GPU_IN"
SECONDS_VARIABLE = "GPU_SECONDS"
_DEFAULT_SECONDS = 5.0
_MOST_SECONDS = 3600.0


def exporter_seconds(environ: Mapping[str, str]) -> float:
    """Give the seconds between two readings by an exporter, 0 for none. ValueError of one line for what is not allowed."""
    where = environ.get(VARIABLE, "")
    if where.strip().lower() not in {"worker", "exporter", ""}:
        raise ValueError(f"{VARIABLE}={where!r} is not allowed: it must be worker or exporter")
    if where.strip().lower() != "exporter":
        return 0.0
    text = environ.get(SECONDS_VARIABLE, "")
    if not text:
        return _DEFAULT_SECONDS
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) <= _MOST_SECONDS:
            return seconds
    raise ValueError(f"{SECONDS_VARIABLE}={text!r} is not allowed: it must be seconds from 0 (GPUs are not read) to {_MOST_SECONDS:g}")
