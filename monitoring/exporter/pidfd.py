"""Seeing at once that a process has ended, whoever its parent is and whoever reaps it."""

import os


def pidfd(pid: int) -> int | None:
    """Give a descriptor that becomes readable when a process ends; None where the kernel has none. Raises ProcessLookupError."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        return None
