"""The calls of an application: `install()` once, and `acquire()` where a worker starts."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .installation import Installation

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_installation: Installation | None = None


def install(
    path: str | os.PathLike[str] | None = None,
    *,
    sample_seconds: float = 2.0,
    max_series: int = 20_000,
) -> None:
    """Make prometheus_client keep its metrics in slots of the metrics directory, for this process and those it forks.

    `path` is the directory; by default the one that `location.choose()` names. `set_function` gauges, custom collectors and
    `process_*` are sampled every `sample_seconds`. A family has at most `max_series` label sets over all workers (0: no cap);
    further ones go to the series whose labels are all `_other`.

    Idempotent. Takes no slot. Raises DirectoryError (a ValueError) with one line where the directory cannot be used. Not on
    Linux, it only warns: prometheus_client stays unchanged.
    """
    global _installation
    if _installation is not None:
        return
    if sys.platform != "linux":
        warnings.warn(
            "monitoring.multiprocess needs Linux (OFD locks). prometheus_client stays unchanged",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    from .storage import location as directories

    chosen = directories.choose(environ={**os.environ, _DIRECTORY: os.fspath(path)}) if path is not None else directories.choose()
    os.environ[_DIRECTORY] = str(chosen)
    # Only now: prometheus_client reads the variable when it is first imported.
    from .installation import Installation

    try:
        _installation = Installation(chosen, sample_seconds, max_series)
    except OSError as error:
        message = f"metrics directory {chosen}: cannot be used: {error}"
        raise directories.DirectoryError(message) from error


def acquire() -> None:
    """Take the slot of this process now, in gunicorn's post_fork or at the start of the ASGI lifespan. Otherwise the first write takes it.

    Never raises for a full or missing disk: that is logged and tried again at later writes. Does nothing before `install()`.
    """
    if _installation is not None:
        _installation.store.acquire()


def metrics_directory() -> Path | None:
    """Return the directory that `install()` has chosen; None before it."""
    return None if _installation is None else _installation.directory


def current_slot() -> int | None:
    """Return the slot that this process holds; None while it holds none."""
    return None if _installation is None else _installation.store.slot
