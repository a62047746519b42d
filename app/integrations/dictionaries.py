"""ΣLANG's dictionaries: trained from samples, and kept as files that all workers of the instance read.

A file's name is the hash of its bytes. A damaged file is recognised by that: it costs only its dictionary, and the log names it. Every
worker can use a dictionary as soon as `add` returns: the file gets its name only once its bytes are on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
import stat
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import zstandard

from app.errors import ReasonError
from monitoring.log_once import LogOnce

from . import dictionary_training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAST_SAMPLES = 8
MOST_SAMPLES = 20_000
LEAST_BYTES = 256
MOST_BYTES = 112 * 1024
"""The allowed sizes of a dictionary. The largest is the default of zstandard's own tool."""

_TRAINING_SECONDS = 120
_ID = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger("neurectomy.sigmalang")


class UnknownDictionaryError(ReasonError, LookupError, reason="unknown_dictionary"):
    """No dictionary of this id, or a damaged one."""


class UselessSamplesError(ValueError):
    """Samples that are useless for a dictionary."""


class TooManyDictionariesError(Exception):
    """The instance has the most dictionaries already."""


@dataclass(frozen=True)
class Entry:
    """One dictionary: its id, its size in bytes, and its creation time, in seconds since 1970."""

    id: str
    bytes: int
    created: float


def train(size: int, samples: list[bytes]) -> bytes:
    """Make a dictionary in a separate process, whose failure does no harm; UselessSamplesError for bad samples."""
    full = [sample for sample in samples if sample]
    if len(full) < LEAST_SAMPLES:
        raise UselessSamplesError(f"{len(full)} samples are not empty; a dictionary needs at least {LEAST_SAMPLES}, better hundreds")
    try:
        done = subprocess.run(
            [sys.executable, "-I", dictionary_training.__file__],
            input=dictionary_training.pack(size, full),
            capture_output=True,
            timeout=_TRAINING_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UselessSamplesError("the training took too long; send fewer samples") from None
    if done.returncode == dictionary_training.USELESS:
        raise UselessSamplesError(done.stderr.decode(errors="replace"))
    if done.returncode or not done.stdout:
        _log.warning("training a dictionary ended with %d: %s", done.returncode, done.stderr.decode(errors="replace")[-500:])
        raise UselessSamplesError("no dictionary can be made from these samples; send more of them, and longer ones")
    return done.stdout


class Dictionaries:
    """The dictionaries in one folder, at most `most` of them."""

    def __init__(self, folder: Path, most: int) -> None:
        """The folder is created with the first dictionary."""
        self.folder = folder
        self.most = most
        self._problems = LogOnce(_log)
        self._prepared = lru_cache(maxsize=16)(self._prepare)

    def add(self, data: bytes) -> Entry:
        """Store a dictionary; storing it again changes nothing. TooManyDictionariesError, or OSError if writing fails."""
        name = _name(data)
        with self._alone():
            with contextlib.suppress(UnknownDictionaryError):
                self.read(name)
                return self._entry(name)
            if len([other for other in self._names() if other != name]) >= self.most:
                raise TooManyDictionariesError(f"there are {self.most} dictionaries already; delete one first")
            new = self.folder / f".new-{secrets.token_hex(8)}"
            try:
                with new.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(self.folder / name)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
            self._settle()
            self._problems.over(name)
            return self._entry(name)

    def entries(self) -> list[Entry]:
        """Return all usable dictionaries, oldest first."""
        found = []
        for name in self._names():
            with contextlib.suppress(UnknownDictionaryError, OSError):
                self.read(name)
                found.append(self._entry(name))
        return sorted(found, key=lambda entry: (entry.created, entry.id))

    def read(self, name: str) -> bytes:
        """Return a dictionary's bytes."""
        if not _ID.fullmatch(name):
            raise _unknown(name)
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _unknown(name) from None
        except OSError as error:
            raise self._damaged(name, error.strerror or str(error)) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._damaged(name, "it is no regular file")
            data = os.read(descriptor, MOST_BYTES + 1)
        except OSError as error:
            raise self._damaged(name, error.strerror or str(error)) from None
        finally:
            os.close(descriptor)
        if _name(data) != name:
            raise self._damaged(name, f"its {len(data)} bytes are not those that it was made of")
        return data

    def remove(self, name: str) -> None:
        """Delete a dictionary, damaged or not."""
        if not _ID.fullmatch(name):
            raise _unknown(name)
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            raise _unknown(name) from None
        self._settle()

    def prepared(self, name: str, level: int | None = None) -> zstandard.ZstdCompressionDict:
        """Return a dictionary prepared for compression at a level, or for decompression. A cached one costs one look at the folder."""
        if not _ID.fullmatch(name) or not (self.folder / name).exists():
            raise _unknown(name)
        return self._prepared(name, level)

    def _prepare(self, name: str, level: int | None) -> zstandard.ZstdCompressionDict:
        made = zstandard.ZstdCompressionDict(self.read(name), dict_type=zstandard.DICT_TYPE_FULLDICT)
        if level is None:
            # Prepared now, in one thread, since many threads use it afterwards.
            frame = zstandard.ZstdCompressor(dict_data=made).compress(b"")
            zstandard.ZstdDecompressor(dict_data=made).decompress(frame)
        else:
            made.precompute_compress(level=level)
        return made

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.folder) if _ID.fullmatch(name)]
        except FileNotFoundError:
            return []

    def _entry(self, name: str) -> Entry:
        status = (self.folder / name).stat()
        return Entry(name, status.st_size, status.st_mtime)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the folder against other writers in all processes, and remove the files of killed ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in self.folder.glob(".new-*"):
                left.unlink(missing_ok=True)
            yield

    def _settle(self) -> None:
        """Sync the change of the folder to the disk."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _damaged(self, name: str, why: str) -> UnknownDictionaryError:
        message = f"dictionary {self.folder / name} cannot be used: {why}; train it again, or delete it"
        self._problems.warn(message, name, logging.ERROR)
        return UnknownDictionaryError(f"dictionary {name} is damaged; train it again", "damaged_dictionary")


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _unknown(name: str) -> UnknownDictionaryError:
    return UnknownDictionaryError(f"there is no dictionary {name[:64]!r}; GET /v1/dictionaries lists them")
