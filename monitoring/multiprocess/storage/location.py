"""The metrics directory of one instance, which all of its processes find the same way.

`choose()` returns a directory that exists, that this process may write, that no other user can replace, and whose file system has
locks; otherwise it raises a DirectoryError. It does not import prometheus_client, which reads the variable on import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.multiprocess.linux import file_lock, file_owner

from . import paths
from .bind_address import address_in, bound_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_RUNTIME = "RUNTIME_DIRECTORY"
_NAME = "multiproc-metrics"
_SHARED_MEMORY = Path("/dev/shm")
#: Bytes that no lease uses: the probe must never meet one.
_PROBE_START, _PROBE_BITS = 1 << 41, 40


class DirectoryError(ValueError):
    """The metrics directory cannot be used. The message is one line: the directory, the reason, and the remedy."""


def choose(bind: str | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Choose the metrics directory, make it unless it was given, check it, and return it.

    PROMETHEUS_MULTIPROC_DIR wins, then systemd's RUNTIME_DIRECTORY, then a directory in /dev/shm (or the temporary directory) named
    by user and by `bind`, the address that the instance serves (found by `bind_address` if it is not given).
    """
    environ = os.environ if environ is None else environ
    if given := environ.get(VARIABLE):
        path = _given(given, f"{VARIABLE}={given}")
    elif given := environ.get(_RUNTIME, "").partition(":")[0]:
        path = _given(given, f"{_RUNTIME}={given}")
    else:
        path = _own(_default(bound_address(environ) if bind is None else bind), f"set {VARIABLE} to another one")
    _require_same_owner(path / paths.LOCK)
    probe_locks(path)
    return path


def find(environ: Mapping[str, str] | None = None) -> Path:
    """Return the directory that `choose()` returns to a service with this environment. For readers: nothing is made, and it may be missing.

    Raises DirectoryError if the environment has neither a directory nor BIND or PORT, or if another user made the directory.
    """
    environ = os.environ if environ is None else environ
    given = environ.get(VARIABLE) or environ.get(_RUNTIME, "").partition(":")[0]
    if given:
        path = Path(os.path.abspath(given))
        return _not_theirs(path / f"{_NAME}-{os.geteuid()}") if _shared_by_all(path) else path
    if not (environ.get("BIND") or environ.get("PORT")):
        message = f"{VARIABLE} is not set: it must name the metrics directory of the service (or BIND its address, as the service has it)"
        raise DirectoryError(message)
    return _not_theirs(_default(",".join(sorted(part.strip() for part in address_in(environ).split(",")))))


def probe_locks(path: Path) -> None:
    """Lock a byte through one descriptor and see it through another; DirectoryError where the file system cannot do that."""
    if sys.platform != "linux":
        return
    start = _PROBE_START + random.getrandbits(_PROBE_BITS)
    advice = f"Set {VARIABLE} to a directory on a local file system, such as one in /dev/shm"

    def probed() -> bool:
        with _probe_file(path) as name, _opened(name) as holder, _opened(name) as witness:
            file_lock.try_lock(holder, start)
            return file_lock.holder(witness, start) is not None

    try:
        try:
            kept = probed()
        except FileNotFoundError:
            # A process that started the run has removed the file; by now its lock file is there.
            kept = probed()
    except PermissionError as error:
        message = f"metrics directory {path}: {error.filename} belongs to another user. Remove that file, or set {VARIABLE} to another path"
        raise DirectoryError(message) from error
    except OSError as error:
        message = f"metrics directory {path}: locking a file in it failed ({error.strerror}). {advice}"
        raise DirectoryError(message) from error
    if not kept:
        message = f"metrics directory {path}: its file system does not keep locks between processes. {advice}"
        raise DirectoryError(message)


def _given(text: str, said: str) -> Path:
    """Check a directory from the environment. In one that all users share, make a directory of this user."""
    path = Path(os.path.abspath(text))
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        message = f"{said}: not found. Create the directory, or unset the variable"
        raise DirectoryError(message) from None
    except (OSError, ValueError) as error:
        message = (
            f"{said}: cannot be reached ({getattr(error, 'strerror', error)}). Set the variable to a directory that this user may write"
        )
        raise DirectoryError(message) from None
    if stat.S_ISLNK(mode):
        message = f"{said}: is a symbolic link, which may be changed at any time. Set the variable to the directory itself"
        raise DirectoryError(message)
    if not stat.S_ISDIR(mode):
        message = f"{said}: is not a directory. Set the variable to a directory, or unset it"
        raise DirectoryError(message)
    if _shared_by_all(path):
        return _own(path / f"{_NAME}-{file_owner.owner()[0]}", "set the variable to a directory that only this user may write")
    file_owner.hand_over(path, paths.is_ours)
    if not file_owner.may_write(path):
        user = file_owner.owner()[0]
        message = f"{said}: the directory is not writable for user {user}. Change its owner or mode, or set the variable to another one"
        raise DirectoryError(message)
    return path


def _shared_by_all(path: Path) -> bool:
    """Whether every user may rename and replace entries here. A mount point is the volume of one pod, whatever its mode."""
    try:
        return bool(path.lstat().st_mode & stat.S_IWOTH) and stat.S_ISDIR(path.lstat().st_mode) and not path.is_mount()
    except OSError:
        return False


def _not_theirs(path: Path) -> Path:
    """Refuse a directory of another user in the place of this user's."""
    with contextlib.suppress(OSError):
        if (found := path.lstat()).st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            message = (
                f"metrics directory {path}: is not a directory owned by user {os.geteuid()}. Remove it, or set {VARIABLE} to another path"
            )
            raise DirectoryError(message)
    return path


def _default(address: str) -> Path:
    """Return the directory of an instance whose environment has none."""
    digest = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return base / f"{_NAME}-{file_owner.owner()[0]}-{digest}"


def _own(path: Path, advice: str) -> Path:
    """Make, or find again, a directory that only this user may use."""
    try:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if stat.S_ISDIR(path.lstat().st_mode):
            file_owner.hand_over(path, paths.is_ours)
        found = path.lstat()
    except OSError as error:
        message = f"metrics directory {path}: cannot be created ({error.strerror}): {advice}"
        raise DirectoryError(message) from None
    fault = ""
    if stat.S_ISLNK(found.st_mode):
        fault = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        fault = "is not a directory"
    elif found.st_uid != (user := file_owner.owner()[0]):
        fault = f"belongs to user {found.st_uid}, not to {user}"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        fault = f"has mode {stat.S_IMODE(found.st_mode):04o}, which lets other users in"
    if fault:
        message = f"metrics directory {path}: {fault}. Remove it, or {advice}"
        raise DirectoryError(message)
    return path


def _require_same_owner(lock_file: Path) -> None:
    """Refuse a lock file that root can lock, and its workers, which run as another user, cannot open."""
    with contextlib.suppress(FileNotFoundError):
        if lock_file.lstat().st_uid != (user := file_owner.owner()[0]) and user != os.geteuid():
            message = f"metrics directory {lock_file.parent}: {lock_file.name} does not belong to the workers' user {user}. Remove it"
            raise DirectoryError(message)


@contextlib.contextmanager
def _probe_file(path: Path) -> Iterator[Path]:
    """Yield a file for trying locks: the lock file itself if it exists, since a full file system may not have room for another file."""
    lock_file = path / paths.LOCK
    if os.path.lexists(lock_file):
        yield lock_file
        return
    try:
        descriptor, name = tempfile.mkstemp(prefix="probe-", suffix=paths.TEMPORARY, dir=path)
    except OSError as error:
        message = f"metrics directory {path}: no file can be created in it ({error.strerror}). Set {VARIABLE} to another one"
        raise DirectoryError(message) from error
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        # A process that started the run may have removed it already.
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
