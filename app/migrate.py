"""`python -m app.migrate`: migrates the database of DATABASE_URL to this version's schema. Concurrent runs wait for each other."""

import asyncio
import os
import sys

from app import command_environment, store  # noqa: F401 - command_environment must be first
from app.settings import Settings, SettingsError
from app.store.errors import StoreError


def main() -> None:
    """Migrate, and print the outcome in one line."""
    try:
        location = Settings.load().database
    except SettingsError as refused:
        sys.exit(str(refused))
    os.umask(0o077)  # no other user may read the file
    try:
        revision = asyncio.run(store.migrator.upgrade(location))
    except StoreError as error:
        sys.exit(f"app.migrate: {error}")
    except OSError as error:
        sys.exit(f"app.migrate: the database {location} cannot be created: {error.strerror}")
    print(f"app.migrate: {location} has schema {revision}")


if __name__ == "__main__":
    main()
