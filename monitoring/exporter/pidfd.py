"""Notices the end of any process at once, whichever process is its parent."""

import os


def pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends, or None if the kernel has no pidfds. Raise ProcessLookupError."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        return None
