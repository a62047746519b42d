"""Migrates a SQLite file when the service starts, in a separate process that ends before any fork.

gunicorn's master does it before its first worker, except one that USR2 has executed: the old master's workers still use the file. Without
such a master each worker does it at its start, one after the other. PostgreSQL is migrated only by `python -m app.migrate`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import app
from app.store.errors import StoreError

from . import schema_version

if TYPE_CHECKING:
    from app.store.database_url import DatabaseLocation


class _Master:
    """Whether this process, or its parent, is a gunicorn master with this project's configuration."""

    here = False


def by_master(location: DatabaseLocation, account: tuple[int, int] | None) -> str | None:
    """Migrate before the first fork, as the user of the workers; return the reason in one line if that failed.

    The service starts even without a usable database: its other routes work, and `/health/ready` reports the reason.
    """
    _Master.here = True
    if "GUNICORN_PID" in os.environ:  # USR2
        return None
    try:
        migrate(location, account)
    except StoreError as error:
        return str(error)
    return None


def by_worker(location: DatabaseLocation) -> None:
    """Migrate unless a master did; StoreError if that fails."""
    if not _Master.here:
        migrate(location, None)


def migrate(location: DatabaseLocation, account: tuple[int, int] | None) -> None:
    """Migrate a SQLite file to this version's schema; do nothing if it has it, or for PostgreSQL."""
    if location.path is None or schema_version.enough(schema_version.of_file(location.path)):
        return
    try:
        make_folder(location.path.parent, account)
        environment = {
            **os.environ,
            "DATABASE_URL": location.url,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(app.__file__).parent.parent), os.environ.get("PYTHONPATH")))),
        }
        user, group = account or (None, None)
        done = subprocess.run(
            [sys.executable, "-m", "app.migrate"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=group,
            extra_groups=None if account is None else [],
        )
    except OSError as error:
        raise StoreError(f"the database {location} cannot be created: {error.strerror}: {error.filename}") from error
    if done.returncode:
        raise StoreError(done.stderr.strip().rpartition("\n")[2] or f"app.migrate ended with {done.returncode}")


def make_folder(folder: Path, account: tuple[int, int] | None = None) -> None:
    """Create the folder of a SQLite file, closed to other users, and make the user of the workers its owner."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(each, *account)
