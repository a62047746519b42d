"""The keys in VAULT_KEY_FILE, which wrap the data keys: a line `<id> <key>` for each, both in hexadecimal, the newest first.

The first key wraps new data keys; all keys unwrap. A changed file is read again at the next use, so that a rotation needs no restart. A
reader of the file can decrypt everything, so only its owner may read it, or the group of a Secret that is mounted for this user. Do not
keep it in the folder of the data.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import struct
import tempfile
import threading
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.integrations.vault.errors import KeyFileError, TamperedError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_ID_BYTES = 8
_MAGIC = b"NVKEY1\0\n"
_WRAPPED_BYTES = len(_MAGIC) + _ID_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES
_MOST_FILE_BYTES = 64 * 1024


class Keyring:
    """The keys in `path`. Without a path, every use raises KeyFileError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._keys: dict[bytes, AESGCM] = {}

    @property
    def configured(self) -> bool:
        """Whether VAULT_KEY_FILE is set, even to a bad file."""
        return self._path is not None

    def check(self) -> None:
        """Raise KeyFileError without a usable key."""
        self._load()

    @property
    def current(self) -> bytes:
        """The id of the key that wraps."""
        return next(iter(self._load()))

    def wrap(self, data_key: bytes, about: bytes) -> bytes:
        """Encrypt a data key for the store. Unwrapping it needs the same `about`."""
        keys = self._load()
        key_id = next(iter(keys))
        nonce = os.urandom(NONCE_BYTES)
        head = _MAGIC + key_id
        return head + nonce + keys[key_id].encrypt(nonce, data_key, head + about)

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        """Decrypt a data key; TamperedError if it was changed, or wrapped elsewhere or for another `about`."""
        if len(wrapped) != _WRAPPED_BYTES or not wrapped.startswith(_MAGIC):
            raise TamperedError("a data key in the store is damaged")
        head, nonce, sealed = struct.unpack(f"{len(_MAGIC) + _ID_BYTES}s{NONCE_BYTES}s{KEY_BYTES + TAG_BYTES}s", wrapped)
        key = self._load().get(wrapping_key(wrapped))
        if key is None:
            raise TamperedError(f"a data key is wrapped with key {wrapping_key(wrapped).hex()}, which is not in VAULT_KEY_FILE")
        try:
            return key.decrypt(nonce, sealed, head + about)
        except InvalidTag:
            raise TamperedError("a data key in the store was changed, or belongs to another object") from None

    def _load(self) -> dict[bytes, AESGCM]:
        if self._path is None:
            raise KeyFileError("ΣVAULT has no key: set VAULT_KEY_FILE to a file made by `python -m app.vault create`")
        with self._lock:
            try:
                # Through one descriptor, so that the checked file is the one that is read.
                fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                raise KeyFileError(f"VAULT_KEY_FILE={self._path} cannot be read: {error.strerror}") from error
            try:
                status = os.fstat(fd)
                seen = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid)
                if seen != self._seen:
                    self._check(status)
                    self._keys = _parse(os.read(fd, _MOST_FILE_BYTES + 1), self._path)
                    self._seen = seen
            finally:
                os.close(fd)
            return self._keys

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"VAULT_KEY_FILE={self._path} is not a regular file")
        # A Secret of Kubernetes belongs to root, and a pod reads it through its fsGroup: the owner cannot be changed.
        ours = status.st_uid == 0 != os.geteuid() and status.st_gid in {os.getegid(), *os.getgroups()}
        if stat.S_IMODE(status.st_mode) & (0o037 if ours else 0o077):
            raise KeyFileError(f"VAULT_KEY_FILE={self._path} can be read or written by other users. Run chmod 600 on it.")
        if status.st_uid not in {0, os.geteuid()}:
            raise KeyFileError(f"VAULT_KEY_FILE={self._path} belongs to another user")


def wrapping_key(wrapped: bytes) -> bytes:
    """Return the id of the key that wraps a data key."""
    return wrapped[len(_MAGIC) : len(_MAGIC) + _ID_BYTES]


def create(path: Path) -> bytes:
    """Create a key file with one new key, readable only by its owner; return the key's id. FileExistsError if the file exists."""
    return _write(path, [], replace=False)


def rotate(path: Path) -> bytes:
    """Add a new key before those in the file; return its id."""
    ring = Keyring(path)
    ring.check()
    lines = path.read_text("ascii").split("\n")
    return _write(path, [line for line in lines if line.strip()], replace=True)


def forget(path: Path) -> int:
    """Remove all keys of the file but the newest; return their number. Call it once no data key is wrapped with them."""
    ring = Keyring(path)
    ring.check()
    lines = [line for line in path.read_text("ascii").split("\n") if line.strip() and not line.startswith("#")]
    _replace(path, lines[:1])
    return len(lines) - 1


def _write(path: Path, others: list[str], *, replace: bool) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    key_id = _identify(key)
    lines = [f"{key_id.hex()} {key.hex()}", *others]
    if replace:
        _replace(path, lines)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return key_id


def _replace(path: Path, lines: list[str]) -> None:
    """Replace the file atomically, so that no failure loses a key."""
    target = path.resolve()
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        status = target.stat()
        if status.st_uid != os.geteuid():
            os.chown(name, status.st_uid, status.st_gid)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _parse(content: bytes, path: Path) -> dict[bytes, AESGCM]:
    found: dict[bytes, AESGCM] = {}
    if len(content) > _MOST_FILE_BYTES:
        raise KeyFileError(f"VAULT_KEY_FILE={path} is larger than {_MOST_FILE_BYTES} bytes, so it is not a key file")
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            key_id, key = (bytes.fromhex(word.decode("ascii")) for word in line.split())
        except ValueError:
            raise KeyFileError(f"VAULT_KEY_FILE={path}, line {number}: it must be a key's id and the key, both in hexadecimal") from None
        if len(key) != KEY_BYTES or key_id != _identify(key):
            raise KeyFileError(f"VAULT_KEY_FILE={path}, line {number}: the key is damaged, since it does not match its id")
        found.setdefault(key_id, AESGCM(key))
    if not found:
        raise KeyFileError(f"VAULT_KEY_FILE={path} has no key in it")
    return found


def _identify(key: bytes) -> bytes:
    """Return the id of a key, derived from its content, so that a damaged key is recognised."""
    return hashlib.blake2b(key, digest_size=_ID_BYTES, person=b"sigmavault-key").digest()
