"""The location of the database: DATABASE_URL, checked without SQLAlchemy."""

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
class DatabaseLocation:
    """The location of a database that the service can use."""

    url: str
    """The URL in SQLAlchemy's form."""
    path: Path | None
    """The absolute path of SQLite's file; None for PostgreSQL."""

    @classmethod
    def parse(cls, url: str) -> DatabaseLocation:
        """Parse DATABASE_URL; ValueError if the service cannot use it."""
        scheme, separator, rest = url.partition("://")
        if not separator or not url.isprintable():
            raise ValueError(ALLOWED)
        if scheme == _SQLITE:
            return cls._file(rest)
        if scheme == _POSTGRESQL:
            return cls._server(url)
        raise ValueError(ALLOWED)

    @classmethod
    def of_file(cls, path: Path) -> DatabaseLocation:
        """Return the location of a SQLite file with any name."""
        absolute = path.absolute()
        return cls(f"{_SQLITE}:///{absolute}", absolute)

    @classmethod
    def _file(cls, rest: str) -> DatabaseLocation:
        """Refuse databases in memory: each worker would have another one."""
        path = rest.removeprefix("/")
        if path == rest or not path or path.endswith("/") or path.startswith((":memory:", "file:")) or any(each in path for each in "?#"):
            raise ValueError(ALLOWED)
        return cls.of_file(Path(path))

    @classmethod
    def _server(cls, url: str) -> DatabaseLocation:
        parts = urlsplit(url)
        if not parts.path.strip("/") or parts.port == 0 or " " in url or "#" in url:  # reading an invalid port raises ValueError
            raise ValueError(ALLOWED)
        if not parts.hostname and "host=" not in parts.query:
            raise ValueError(ALLOWED)
        if importlib.util.find_spec("asyncpg") is None:
            raise ValueError(ALLOWED)
        return cls(url, None)

    def __str__(self) -> str:
        """Return the location for log lines, without a password."""
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.url)
        return f"{parts.hostname or 'the local PostgreSQL'}{f':{parts.port}' if parts.port else ''}{parts.path}"
