"""A SQLite file is brought to this version's schema by the service itself, in a process of its own that ends before anybody forks.

gunicorn's master does it before its first worker, but never one that USR2 has executed: the old master's workers still use the file.
Without such a master each worker's start does it, one after the other. On PostgreSQL only `python -m app.migrate` does.
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
    from app.store.database_url import Place


class _Master:
    """Whether a gunicorn master with the kit's configuration is this process, or its parent."""

    here = False


def by_master(place: Place, account: tuple[int, int] | None) -> str | None:
    """Migrate before the first fork, as the user that workers will be; give the line that says why that did not work.

    A service whose database cannot be made ready starts all the same: its other routes work, and `/health/ready` says what is missing.
    """
    _Master.here = True
    if "GUNICORN_PID" in os.environ:  # USR2
        return None
    try:
        migrate(place, account)
    except StoreError as error:
        return str(error)
    return None


def by_worker(place: Place) -> None:
    """Migrate where no master has seen to it; StoreError where that does not work."""
    if not _Master.here:
        migrate(place, None)


def migrate(place: Place, account: tuple[int, int] | None) -> None:
    """Bring a SQLite file to this version's schema; nothing where it has it, or for PostgreSQL."""
    if place.path is None or schema_version.enough(schema_version.of_file(place.path)):
        return
    try:
        make_folder(place.path.parent, account)
        environment = {
            **os.environ,
            "DATABASE_URL": place.url,
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
        raise StoreError(f"the database {place} cannot be made: {error.strerror}: {error.filename}") from error
    if done.returncode:
        raise StoreError(done.stderr.strip().rpartition("\n")[2] or f"app.migrate ended with {done.returncode}")


def make_folder(folder: Path, account: tuple[int, int] | None = None) -> None:
    """Make the folder of a SQLite file, which nobody else may look into, and give it to the user that workers will be."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(each, *account)
