"""`python -m app.migrate`: bring the database of DATABASE_URL to this version's schema. A second one at once waits for the first."""

import asyncio
import os
import sys

from app import command_environment, store  # noqa: F401 - the first one first: see there
from app.settings import Settings, SettingsError
from app.store.errors import StoreError


def main() -> None:
    """Migrate, and say in one line what came of it."""
    try:
        place = Settings.load().database
    except SettingsError as refused:
        sys.exit(str(refused))
    os.umask(0o077)  # the file is nobody else's
    try:
        revision = asyncio.run(store.migrator.upgrade(place))
    except StoreError as error:
        sys.exit(f"app.migrate: {error}")
    except OSError as error:
        sys.exit(f"app.migrate: the database {place} cannot be made: {error.strerror}")
    print(f"app.migrate: {place} has schema {revision}")


if __name__ == "__main__":
    main()
