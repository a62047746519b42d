"""The owner of the files in the metrics directory, where that is not the user of this process.

A gunicorn master that root started may have workers of another user (`--user`, `--group`). They must be able to continue every file
that the master creates, so each file is handed over when it is created. A worker creates none before it has become that user: a change
of user in another thread would leave a file owned by root.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_owner: tuple[int, int] | None = None


def assign(user: int, group: int) -> None:
    """Let all files that this process and its children create belong to this user and group. Only root may call it."""
    global _owner
    _owner = (user, group)


def owner() -> tuple[int, int]:
    """Return the user and the group that the files belong to."""
    return _owner or (os.geteuid(), os.getegid())


def create(path: Path, mode: int = 0o644) -> int:
    """Create a file of the owner and return its descriptor; FileExistsError where the name is taken, even by a link."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        _hand_over(fd)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return fd


def recreate(path: Path) -> int:
    """Create a file in place of one that a process left there when it died."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return create(path)


def replace(path: Path, temporary: Path, data: bytes) -> None:
    """Put a file with this content in place by rename; OSError where that fails, and no temporary file stays."""
    fd = recreate(temporary)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def hand_over(directory: Path, is_ours: Callable[[str], bool]) -> None:
    """Hand a directory of root and its files over to the owner, if it is empty or has only files of the library.

    Only root could have put anything there, so that nothing in it is a trap.
    """
    if _owner is None:
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if found.st_uid == _owner[0] or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            return
        names = os.listdir(fd)
        if not all(map(is_ours, names)):
            return
        for name in names:
            os.chown(name, *_owner, dir_fd=fd, follow_symlinks=False)
        os.fchown(fd, *_owner)
    finally:
        os.close(fd)


def may_write(directory: Path) -> bool:
    """Return whether the owner may create files in a directory, with every directory on the way to it."""
    checks = os.R_OK | os.W_OK | os.X_OK
    if _owner is None or _owner[0] == os.geteuid():
        return os.access(directory, checks, effective_ids=os.access in os.supports_effective_ids)
    user, group = os.geteuid(), os.getegid()
    os.setegid(_owner[1])
    try:
        os.seteuid(_owner[0])
        try:
            return os.access(directory, checks, effective_ids=True)
        finally:
            os.seteuid(user)
    finally:
        os.setegid(group)


def _hand_over(fd: int) -> None:
    if _owner is not None and os.geteuid() == 0:
        os.fchown(fd, *_owner)
