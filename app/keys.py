"""`python -m app.keys`: create, list and revoke API keys on the machine of the database. The first key can only be made this way.

`create` prints only the key on standard output. It is shown only once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from app import command_environment, store  # noqa: F401 - command_environment must be first
from app.settings import Settings, SettingsError
from app.store.database import Database
from app.store.errors import StoreError

if TYPE_CHECKING:
    from app.store.models import ApiKey

_DAY_SECONDS = 86_400
_MOST = 1000


async def create(database: Database, chosen: argparse.Namespace) -> str | None:
    """Print a new key."""
    if not re.fullmatch(store.keys.USER_NAME, chosen.user):
        return f"--user {chosen.user!r}: a name has up to 64 letters, digits, '.', '_', '@' and '-', and starts with a letter or digit"
    lifetime = None if chosen.days is None else chosen.days * _DAY_SECONDS
    try:
        async with database.writing() as session:
            key, kept = await store.keys.create(session, chosen.user, chosen.role, lifetime)
    except store.keys.RoleDiffersError as error:
        return f"{error}; leave --role out, or choose another --user"
    _say(f"key {kept.id} of {kept.user.role} {kept.user.name}, {_until(kept)}; shown only now:", sys.stderr)
    _say(key)
    return None


async def show(database: Database, _chosen: argparse.Namespace) -> str | None:
    """Print a line for each key: number, prefix, user, role, state."""
    after = 0
    while True:
        async with database.reading() as session:
            rows = await store.keys.listing(session, after, _MOST)
        for row in rows:
            _say(f"{row.id}\t{row.prefix}\t{row.user.name}\t{row.user.role}\t{_until(row)}")
        if len(rows) < _MOST:
            return None
        after = rows[-1].id


async def revoke(database: Database, chosen: argparse.Namespace) -> str | None:
    """Revoke a key by its number."""
    async with database.writing() as session:
        known = await store.keys.revoke(session, chosen.number)
    return None if known else f"there is no key {chosen.number}"


def _until(row: ApiKey) -> str:
    if row.revoked is not None:
        return f"revoked {_moment(row.revoked)}"
    if not row.user.active:
        return "of a user that is disabled"
    return "does not expire" if row.expires is None else f"until {_moment(row.expires)}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")


def _say(line: str, stream: TextIO | None = None) -> None:
    print(line, file=stream, flush=True)


async def _run(chosen: argparse.Namespace, settings: Settings) -> str | None:
    if settings.database.path is not None:
        os.umask(0o077)
        await store.migrator.upgrade(settings.database)
    database = Database(settings.database)
    try:
        failed: str | None = await chosen.work(database, chosen)
        return failed
    finally:
        await database.close()


def main() -> None:
    """Run the command; one line and exit code 1 if it fails."""
    parser = argparse.ArgumentParser(prog="python -m app.keys", description="API keys of the service whose DATABASE_URL is set.")
    commands = parser.add_subparsers(required=True, metavar="create|list|revoke")
    creating = commands.add_parser("create", help="create a key and print it once")
    creating.add_argument("--user", default="admin", help="the owner of the key; created if there is none (admin)")
    creating.add_argument("--role", choices=("user", "admin"), help="the role of a new user (admin for the user admin, otherwise user)")
    creating.add_argument("--days", type=_days, help="the lifetime of the key; without it, the key does not expire")
    creating.set_defaults(work=create)
    commands.add_parser("list", help="list all keys, without their secrets").set_defaults(work=show)
    revoking = commands.add_parser("revoke", help="revoke a key at once")
    revoking.add_argument("number", type=int, help="its number in the list")
    revoking.set_defaults(work=revoke)
    chosen = parser.parse_args()
    if chosen.work is create and chosen.role is None and chosen.user == "admin":
        chosen.role = "admin"
    try:
        failed = asyncio.run(_run(chosen, Settings.load()))
    except (SettingsError, StoreError) as error:
        failed = str(error)
    if failed:
        sys.exit(f"app.keys: {failed}")


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36_500:
        raise ValueError
    return days


if __name__ == "__main__":
    main()
