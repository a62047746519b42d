"""The storage of all files: a folder (`file:///path`) or S3 (`s3://bucket/prefix`), through obstore, which is imported at first use.

Errors of both are raised as this package's own. S3 takes its credentials from the environment variables of AWS.
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
    """The path has no file."""


@dataclass(frozen=True)
class Kept:
    """The file under one path; `moment` is the time of its creation, in seconds since 1970."""

    path: str
    bytes: int
    moment: float


class ObjectStorage:
    """One folder, or one prefix of a bucket. Each process opens it at its first use.

    obstore's blocking calls run in our threads: its asynchronous ones can abort a process that is ending (seen with 0.12).
    """

    def __init__(self, url: str, policy: Policy | None = None) -> None:
        """For S3, `policy` is that of a circuit breaker that all workers share; None means no breaker."""
        self._url = url
        guarded = policy is not None and self._folder is None
        self._breaker = Breaker(SERVICE, policy, counts=(UnavailableError,)) if guarded else None
        self._opened: tuple[int, Any, ThreadPoolExecutor] | None = None

    @property
    def unused(self) -> bool:
        """Whether nothing was ever stored here, as far as that is known without a server."""
        return self._opened is None and self._folder is not None and not self._folder.exists()

    async def get(self, path: str) -> bytes:
        """Read a small file whole."""
        return await self._run(lambda obstore, store: bytes(obstore.get(store, path).bytes()))

    async def read(self, path: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return the size in bytes, and the bytes in pieces."""
        found = await self._run(lambda obstore, store: obstore.get(store, path))

        async def pieces() -> AsyncIterator[bytes]:
            stream = iter(found.stream(min_chunk_size=PIECE_BYTES))
            while (piece := await self._run(lambda *_: next(stream, None))) is not None:
                yield bytes(piece)

        return found.meta["size"], pieces()

    async def put(self, path: str, content: bytes) -> None:
        """Write a small file, replacing an existing one atomically."""
        await self._run(lambda obstore, store: obstore.put(store, path, content, use_multipart=False))

    async def create(self, path: str, content: bytes) -> bool:
        """Write a small file unless there is one; return whether it was written."""

        def create(obstore: Any, store: Any) -> bool:
            from obstore.exceptions import AlreadyExistsError

            try:
                obstore.put(store, path, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return await self._run(create)

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """Write all `pieces` to a file, or nothing if they raise."""

        def open_writer(obstore: Any, store: Any) -> Any:
            return obstore.open_writer(store, path, buffer_size=_PART_BYTES, max_concurrency=2)

        writer = await self._run(open_writer, asks=False)
        try:
            async for piece in pieces:
                await self._run(lambda *_, piece=piece: writer.write(piece), asks=False)
            await self._run(lambda *_: writer.close())
        except BaseException:
            # A writer that is dropped without `close` leaves no file, unless it has failed, for example on a full disk.
            del writer
            await self._run(lambda *_: self._unstage(path), asks=False)
            raise

    async def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        with contextlib.suppress(MissingError):
            await self._run(lambda obstore, store: obstore.delete(store, path))

    async def list(self, folder: str) -> AsyncIterator[Kept]:
        """Yield all files in a folder and below, in no order."""
        batches = await self._run(lambda obstore, store: iter(obstore.list(store, folder or None)), asks=False)
        while (batch := await self._run(lambda *_: next(batches, None))) is not None:
            for each in batch:
                yield Kept(each["path"], each["size"], each["last_modified"].timestamp())

    async def clean(self, older_than: float) -> int:
        """Remove incomplete uploads in a folder that started before this time. S3 has its own rules for that."""
        folder = self._folder
        return 0 if folder is None else await self._run(lambda *_: _remove_staged(folder, older_than))

    @property
    def _folder(self) -> Path | None:
        parts = urlsplit(self._url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def _unstage(self, path: str) -> None:
        """Remove the incomplete upload to this path, which no other upload uses."""
        folder = self._folder
        for staged in [] if folder is None else (folder / path).parent.glob(f"{Path(path).name}#*"):
            staged.unlink(missing_ok=True)

    async def _run(self, work: Callable[..., _T], *, asks: bool = True) -> _T:
        """Do `work` in a thread, with obstore and the store. A cancellation waits for it, so that no work continues after it.

        Work that may succeed without an answer of the server is not `asks`: its success must not close the circuit breaker.
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
                    continue  # it was completed, or removed by another process
    return removed


@contextmanager
def _errors() -> Iterator[None]:
    """Raise this package's own error for one of the store."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(str(error).partition("\n")[0]) from error
    except Exception as error:
        from obstore.exceptions import BaseError

        if not isinstance(error, BaseError | OSError):
            raise
        # The lines after the first are for programmers.
        text = str(error)
        first = text.partition("\n")[0]
        full = _FULL.search(text) or getattr(error, "errno", 0) in {28, 122}
        raise (StorageFullError(f"the store is full: {first}") if full else UnavailableError(f"the store failed: {first}")) from error
