"""Where the metrics files of one instance live, decided the same way by every process of it.

`choose()` gives a directory that exists, that this process may write, that nobody else can swap under it, and on whose file system
locks work; anything else is a DirectoryError of one line. It does not import prometheus_client, which reads the variable on import.
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
    """The metrics directory cannot be used; its text is one line that says which, why, and what to do."""


def choose(bind: str | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Decide, make where it is ours to make, check and return the metrics directory.

    PROMETHEUS_MULTIPROC_DIR wins, then systemd's RUNTIME_DIRECTORY, then a directory in /dev/shm (or the temporary directory) named
    by user and by `bind`, the address that the instance serves; without `bind` that address is found out.
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
    """Name the directory that `choose()` gives a service with this environment; for who only reads: nothing is made, and it may not exist.

    Raises DirectoryError where nothing says which (without a directory given, BIND or PORT has to), or where somebody else made it.
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
    advice = f"set {VARIABLE} to a directory on a local file system, such as one in /dev/shm"

    def probed() -> bool:
        with _probe_file(path) as name, _opened(name) as holder, _opened(name) as witness:
            file_lock.try_lock(holder, start)
            return file_lock.holder(witness, start) is not None

    try:
        try:
            kept = probed()
        except FileNotFoundError:
            # A process that starts the run beside us has swept our file; by now its lock file is there.
            kept = probed()
    except PermissionError as error:
        message = f"metrics directory {path}: {error.filename} is another user's; remove what that one left, or set {VARIABLE} anew"
        raise DirectoryError(message) from error
    except OSError as error:
        message = f"metrics directory {path}: locking a file in it failed ({error.strerror}); {advice}"
        raise DirectoryError(message) from error
    if not kept:
        message = f"metrics directory {path}: its file system does not keep locks between processes; {advice}"
        raise DirectoryError(message)


def _given(text: str, said: str) -> Path:
    """Check a directory that somebody chose for us; where all users share it, make our own in it."""
    path = Path(os.path.abspath(text))
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        message = f"{said}: there is no such directory; create it or unset the variable"
        raise DirectoryError(message) from None
    except (OSError, ValueError) as error:
        message = f"{said}: the directory cannot be reached ({getattr(error, 'strerror', error)}); give one that this user may write"
        raise DirectoryError(message) from None
    if stat.S_ISLNK(mode):
        message = f"{said}: this is a symbolic link, which can be pointed elsewhere under us; give the directory itself"
        raise DirectoryError(message)
    if not stat.S_ISDIR(mode):
        message = f"{said}: this is no directory; give one, or unset the variable"
        raise DirectoryError(message)
    if _shared_by_all(path):
        return _own(path / f"{_NAME}-{file_owner.owner()[0]}", "or give a directory that only this user may write")
    file_owner.hand_over(path, paths.is_ours)
    if not file_owner.may_write(path):
        user = file_owner.owner()[0]
        message = f"{said}: the directory is not writable for user {user}; change its owner or mode, or give another one"
        raise DirectoryError(message)
    return path


def _shared_by_all(path: Path) -> bool:
    """Whether anybody may rename and replace entries here. A mount point is the volume of one pod, whatever its mode."""
    try:
        return bool(path.lstat().st_mode & stat.S_IWOTH) and stat.S_ISDIR(path.lstat().st_mode) and not path.is_mount()
    except OSError:
        return False


def _not_theirs(path: Path) -> Path:
    """Refuse a directory that another user has put where ours is to be."""
    with contextlib.suppress(OSError):
        if (found := path.lstat()).st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            message = f"metrics directory {path}: it is no directory of user {os.geteuid()}; remove it, or give another one in {VARIABLE}"
            raise DirectoryError(message)
    return path


def _default(address: str) -> Path:
    """Name the directory of an instance that nobody gave one."""
    digest = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return base / f"{_NAME}-{file_owner.owner()[0]}-{digest}"


def _own(path: Path, advice: str) -> Path:
    """Make (or find again) a directory that is ours alone."""
    try:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if stat.S_ISDIR(path.lstat().st_mode):
            file_owner.hand_over(path, paths.is_ours)
        found = path.lstat()
    except OSError as error:
        message = f"metrics directory {path}: it cannot be created ({error.strerror}); {advice}"
        raise DirectoryError(message) from None
    fault = ""
    if stat.S_ISLNK(found.st_mode):
        fault = "it is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        fault = "it is no directory"
    elif found.st_uid != (user := file_owner.owner()[0]):
        fault = f"it belongs to user {found.st_uid}, not to {user}"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        fault = f"its mode is {stat.S_IMODE(found.st_mode):04o}, others can reach into it"
    if fault:
        message = f"metrics directory {path}: {fault}; remove it, {advice}"
        raise DirectoryError(message)
    return path


def _require_same_owner(lock_file: Path) -> None:
    """Root could lock what its workers, who are somebody else, cannot open."""
    with contextlib.suppress(FileNotFoundError):
        if lock_file.lstat().st_uid != (user := file_owner.owner()[0]) and user != os.geteuid():
            message = f"metrics directory {lock_file.parent}: {lock_file.name} is not user {user}'s, as which workers run; remove it"
            raise DirectoryError(message)


@contextlib.contextmanager
def _probe_file(path: Path) -> Iterator[Path]:
    """Give a file to try locks on: the lock file itself where there is one, since a full file system may not have room for another."""
    lock_file = path / paths.LOCK
    if os.path.lexists(lock_file):
        yield lock_file
        return
    try:
        descriptor, name = tempfile.mkstemp(prefix="probe-", suffix=paths.TEMPORARY, dir=path)
    except OSError as error:
        message = f"metrics directory {path}: no file can be created in it ({error.strerror}); set {VARIABLE} to another one"
        raise DirectoryError(message) from error
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        # A process that starts the run beside us may have swept it already.
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
