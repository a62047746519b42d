"""Where the database is: DATABASE_URL, checked without SQLAlchemy."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ALLOWED = (
    "sqlite+aiosqlite:///path of a file, or postgresql+asyncpg://user:password@host:port/database "
    "(with the extra `postgresql` installed: it brings asyncpg)"
)
_SQLITE = "sqlite+aiosqlite"
_POSTGRESQL = "postgresql+asyncpg"


@dataclass(frozen=True)
class Place:
    """A database that the service can use."""

    url: str
    """SQLAlchemy's form."""
    path: Path | None
    """SQLite's file, absolute; None for PostgreSQL."""

    @classmethod
    def parse(cls, url: str) -> Place:
        """Read DATABASE_URL; ValueError where it is nothing that can be served with."""
        scheme, separator, rest = url.partition("://")
        if not separator or not url.isprintable():
            raise ValueError(ALLOWED)
        if scheme == _SQLITE:
            return cls._file(rest)
        if scheme == _POSTGRESQL:
            return cls._server(url)
        raise ValueError(ALLOWED)

    @classmethod
    def of_file(cls, path: Path) -> Place:
        """Give a SQLite file, whatever its name is."""
        absolute = path.absolute()
        return cls(f"{_SQLITE}:///{absolute}", absolute)

    @classmethod
    def _file(cls, rest: str) -> Place:
        """What is in memory would be another one in each worker."""
        path = rest.removeprefix("/")
        if path == rest or not path or path.endswith("/") or path.startswith((":memory:", "file:")) or any(each in path for each in "?#"):
            raise ValueError(ALLOWED)
        return cls.of_file(Path(path))

    @classmethod
    def _server(cls, url: str) -> Place:
        parts = urlsplit(url)
        if not parts.path.strip("/") or parts.port == 0 or " " in url or "#" in url:  # the port of a nonsense one raises by itself
            raise ValueError(ALLOWED)
        if not parts.hostname and "host=" not in parts.query:
            raise ValueError(ALLOWED)
        if importlib.util.find_spec("asyncpg") is None:
            raise ValueError(ALLOWED)
        return cls(url, None)

    def __str__(self) -> str:
        """Name it for people, without a password."""
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.url)
        return f"{parts.hostname or 'the local PostgreSQL'}{f':{parts.port}' if parts.port else ''}{parts.path}"
