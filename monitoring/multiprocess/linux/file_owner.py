"""Whose the files of the metrics directory are, where that is not the user of this process.

A gunicorn master that root started may have workers of another user (`--user`, `--group`). They have to be able to go on with every
file that the master makes, so each is handed over as it is made. A worker makes none before it has become that user: a change of user
in the middle of it, in another thread, would leave a file of root's.
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
    """Have everything that this process and its children make belong to this user and group. Only root may say so."""
    global _owner
    _owner = (user, group)


def owner() -> tuple[int, int]:
    """The user and the group that the files belong to."""
    return _owner or (os.geteuid(), os.getegid())


def create(path: Path, mode: int = 0o644) -> int:
    """Make a new file, the owner's, and give its descriptor; FileExistsError where the name is taken, be it by a link."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        _give(fd)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return fd


def create_anew(path: Path) -> int:
    """As `create`, in place of what somebody left there who died over it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return create(path)


def replace(path: Path, temporary: Path, data: bytes) -> None:
    """Put a file with this content in place by rename; OSError where that fails, and nothing is left over then."""
    fd = create_anew(temporary)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def hand_over(directory: Path, is_ours: Callable[[str], bool]) -> None:
    """Give a directory of root's with everything in it to the owner: only one that is empty, or has nothing but files of ours.

    Nobody but root could have put anything there, so that nothing in it is a trap.
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
    """Whether the owner may make files in a directory, with everything on the way to it."""
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


def _give(fd: int) -> None:
    if _owner is not None and os.geteuid() == 0:
        os.fchown(fd, *_owner)
