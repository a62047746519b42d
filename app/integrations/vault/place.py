"""Where things are kept: a folder (`file:///path`) or S3 (`s3://bucket/prefix`), through obstore, which is imported at first use.

Errors of either come out as this package's own. S3 takes its credentials from the environment, by AWS's usual names.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from app.integrations.vault.errors import StorageFullError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PIECE_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024
_STAGED = re.compile(r"#\d+$")
_FULL = re.compile(r"os error (28|122)\b")


class MissingError(Exception):
    """Nothing is kept under this path."""


@dataclass(frozen=True)
class Kept:
    """What is kept under one path; `moment` is when it was put there, in seconds since 1970."""

    path: str
    bytes: int
    moment: float


class Place:
    """One folder or one prefix of a bucket. Opened at first use, anew in every process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: tuple[int, Any] | None = None

    @property
    def unused(self) -> bool:
        """Whether nothing was ever kept here, as far as that shows without asking a server."""
        parts = urlsplit(self._url)
        return self._opened is None and parts.scheme == "file" and not Path(unquote(parts.path)).exists()

    async def get(self, path: str) -> bytes:
        """Read a small thing whole."""
        obstore, store = self._open()
        with _errors():
            found = await obstore.get_async(store, path)
            return bytes(await found.bytes_async())

    async def read(self, path: str) -> tuple[int, AsyncIterator[bytes]]:
        """Give how many bytes there are, and the bytes in pieces."""
        obstore, store = self._open()
        with _errors():
            found = await obstore.get_async(store, path)

        async def pieces() -> AsyncIterator[bytes]:
            with _errors():
                async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                    yield bytes(piece)

        return found.meta["size"], pieces()

    async def put(self, path: str, content: bytes) -> None:
        """Keep something small, replacing what is there in one step."""
        obstore, store = self._open()
        with _errors():
            await obstore.put_async(store, path, content, use_multipart=False)

    async def create(self, path: str, content: bytes) -> bool:
        """Keep something small unless something is there; whether it was kept."""
        obstore, store = self._open()
        from obstore.exceptions import AlreadyExistsError

        with _errors():
            try:
                await obstore.put_async(store, path, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep what `pieces` give: all of it, or nothing where they raise."""
        obstore, store = self._open()
        with _errors():
            # Dropped without `close`, it leaves nothing.
            writer = obstore.open_writer_async(store, path, buffer_size=_PART_BYTES, max_concurrency=2)
        async for piece in pieces:
            with _errors():
                await writer.write(piece)
        with _errors():
            await writer.close()

    async def remove(self, path: str) -> None:
        """Remove what is there, if anything is."""
        obstore, store = self._open()
        with _errors():
            try:
                await obstore.delete_async(store, path)
            except FileNotFoundError:
                return

    async def list(self, folder: str, after: str = "") -> AsyncIterator[Kept]:
        """Give everything in a folder and below it, in no order; S3 begins `after` a path by itself."""
        obstore, store = self._open()
        with _errors():
            async for batch in obstore.list(store, folder or None, offset=after or None):
                for each in batch:
                    yield Kept(each["path"], each["size"], each["last_modified"].timestamp())

    async def clean(self, older_than: float) -> int:
        """Remove what uploads that died half way left in a folder, if they began before this moment; S3 has rules of its own for that."""
        parts = urlsplit(self._url)
        if parts.scheme != "file":
            return 0
        return await asyncio.to_thread(_remove_staged, Path(unquote(parts.path)), older_than)

    def _open(self) -> tuple[Any, Any]:
        import obstore

        if self._opened is None or self._opened[0] != os.getpid():
            with _errors():
                self._opened = (os.getpid(), _store(self._url))
        return obstore, self._opened[1]


def _store(url: str) -> Any:  # noqa: ANN401 - obstore's stores have no common type that is public
    from obstore.store import LocalStore, S3Store

    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={"timeout": "30s", "connect_timeout": "5s", "allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": _seconds(20)},
        )
    folder = Path(unquote(parts.path))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(prefix=folder)


def _seconds(seconds: int) -> Any:  # noqa: ANN401 - a timedelta
    from datetime import timedelta

    return timedelta(seconds=seconds)


def _remove_staged(folder: Path, older_than: float) -> int:
    removed = 0
    for directory, _, files in os.walk(folder):
        for name in files:
            if _STAGED.search(name):
                path = Path(directory, name)
                try:
                    if path.stat().st_mtime < older_than:
                        path.unlink()
                        removed += 1
                except OSError:
                    continue  # it was finished, or removed by another
    return removed


@contextmanager
def _errors() -> Iterator[None]:
    """Say in this package's words what the store said."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(str(error).partition("\n")[0]) from error
    except Exception as error:
        from obstore.exceptions import BaseError

        if not isinstance(error, BaseError | OSError):
            raise
        # What follows the first line is for programmers.
        text = str(error)
        first = text.partition("\n")[0]
        full = _FULL.search(text) or getattr(error, "errno", 0) in {28, 122}
        raise (
            StorageFullError(f"the store has no room left: {first}") if full else UnavailableError(f"the store failed: {first}")
        ) from error
