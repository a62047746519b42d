"""Where things are kept: a folder (`file:///path`) or S3 (`s3://bucket/prefix`), through obstore, which is imported at first use.

Errors of either come out as this package's own. S3 takes its credentials from the environment, by AWS's usual names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from app.integrations.vault.errors import StorageFullError, UnavailableError
from monitoring.breaker import Breaker, CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from monitoring.breaker import Policy

SERVICE = "sigmavault"
"""The breaker's name."""

_T = TypeVar("_T")
PIECE_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024
_THREADS = 16
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
    """One folder or one prefix of a bucket. Opened at first use, anew in every process.

    obstore's calls that block are made in threads of our own: its asynchronous ones can abort a process that ends then (seen with 0.12).
    """

    def __init__(self, url: str, policy: Policy | None = None) -> None:
        """Remember where. S3 is behind a circuit breaker of this policy, one for all workers; without one there is none."""
        self._url = url
        guarded = policy is not None and self._folder is None
        self._breaker = Breaker(SERVICE, policy, counts=(UnavailableError,)) if guarded else None
        self._opened: tuple[int, Any, ThreadPoolExecutor] | None = None

    @property
    def unused(self) -> bool:
        """Whether nothing was ever kept here, as far as that shows without asking a server."""
        return self._opened is None and self._folder is not None and not self._folder.exists()

    async def get(self, path: str) -> bytes:
        """Read a small thing whole."""
        return await self._run(lambda obstore, store: bytes(obstore.get(store, path).bytes()))

    async def read(self, path: str) -> tuple[int, AsyncIterator[bytes]]:
        """Give how many bytes there are, and the bytes in pieces."""
        found = await self._run(lambda obstore, store: obstore.get(store, path))

        async def pieces() -> AsyncIterator[bytes]:
            stream = iter(found.stream(min_chunk_size=PIECE_BYTES))
            while (piece := await self._run(lambda *_: next(stream, None))) is not None:
                yield bytes(piece)

        return found.meta["size"], pieces()

    async def put(self, path: str, content: bytes) -> None:
        """Keep something small, replacing what is there in one step."""
        await self._run(lambda obstore, store: obstore.put(store, path, content, use_multipart=False))

    async def create(self, path: str, content: bytes) -> bool:
        """Keep something small unless something is there; whether it was kept."""

        def create(obstore: Any, store: Any) -> bool:
            from obstore.exceptions import AlreadyExistsError

            try:
                obstore.put(store, path, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return await self._run(create)

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep what `pieces` give: all of it, or nothing where they raise."""

        def begin(obstore: Any, store: Any) -> Any:
            return obstore.open_writer(store, path, buffer_size=_PART_BYTES, max_concurrency=2)

        writer = await self._run(begin, asks=False)
        try:
            async for piece in pieces:
                await self._run(lambda *_, piece=piece: writer.write(piece), asks=False)
            await self._run(lambda *_: writer.close())
        except BaseException:
            # Dropped without `close` a writer leaves nothing, unless it has failed, as where the disk is full.
            del writer
            await self._run(lambda *_: self._unstage(path), asks=False)
            raise

    async def remove(self, path: str) -> None:
        """Remove what is there, if anything is."""
        with contextlib.suppress(MissingError):
            await self._run(lambda obstore, store: obstore.delete(store, path))

    async def list(self, folder: str) -> AsyncIterator[Kept]:
        """Give everything in a folder and below it, in no order."""
        batches = await self._run(lambda obstore, store: iter(obstore.list(store, folder or None)), asks=False)
        while (batch := await self._run(lambda *_: next(batches, None))) is not None:
            for each in batch:
                yield Kept(each["path"], each["size"], each["last_modified"].timestamp())

    async def clean(self, older_than: float) -> int:
        """Remove what uploads that died half way left in a folder, if they began before this moment; S3 has rules of its own for that."""
        folder = self._folder
        return 0 if folder is None else await self._run(lambda *_: _remove_staged(folder, older_than))

    @property
    def _folder(self) -> Path | None:
        parts = urlsplit(self._url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def _unstage(self, path: str) -> None:
        """Remove what an upload to this path has left; the path is its own."""
        folder = self._folder
        for staged in [] if folder is None else (folder / path).parent.glob(f"{Path(path).name}#*"):
            staged.unlink(missing_ok=True)

    async def _run(self, work: Callable[..., _T], *, asks: bool = True) -> _T:
        """Do `work` in a thread, with obstore and the store. A cancellation waits for it, so that nothing is done behind its back.

        What does not wait for a server's answer, or maybe does not, `asks` it nothing: that it went well says nothing about the server.
        """
        running = asyncio.get_running_loop().run_in_executor(self._pool(), self._do, work, asks)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()
            raise

    def _do(self, work: Callable[..., _T], asks: bool) -> _T:
        if self._breaker is None:
            return self._work(work)
        if not asks:
            try:
                return self._work(work)
            except UnavailableError:
                self._breaker.fail()
                raise
        try:
            with self._breaker.call():
                return self._work(work)
        except CircuitOpenError as error:
            text = f"the store has failed too often; it is asked again in {error.retry_after:.1f} s"
            raise UnavailableError(text, error.retry_after) from error

    def _work(self, work: Callable[..., _T]) -> _T:
        with _errors():
            import obstore

            assert self._opened is not None
            pid, store, pool = self._opened
            if store is None:
                store = _store(self._url)
                self._opened = (pid, store, pool)
            return work(obstore, store)

    def _pool(self) -> ThreadPoolExecutor:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), None, ThreadPoolExecutor(_THREADS, "vault"))
        return self._opened[2]


def _store(url: str) -> Any:
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


def _seconds(seconds: int) -> Any:
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
