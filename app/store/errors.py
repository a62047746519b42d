"""Failures of the database itself. Each text is one line that names the cure, and never a password."""

from app.errors import ReasonError

COMMAND = "python -m app.migrate"


class StoreError(ReasonError, reason="database_failed"):
    """A request that needs the database cannot be served."""


class DatabaseAwayError(StoreError, reason="database_away"):
    """The database cannot be reached, or does not answer in time: a retry may succeed."""


class NotMigratedError(StoreError, reason="not_migrated"):
    """The schema is older than this version of the service needs."""

    def __init__(self) -> None:
        super().__init__(f"the database does not have this version's schema yet: run `{COMMAND}`")


class DatabaseFullError(StoreError, reason="database_full"):
    """The database is full; nothing was written."""
