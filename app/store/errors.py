"""Failures of the database itself. Each text is one line that names the cure, and never a password."""

COMMAND = "python -m app.migrate"


class StoreError(Exception):
    """A request that needs the database cannot be served."""

    reason = "database_failed"


class DatabaseAwayError(StoreError):
    """The database cannot be reached, or does not answer in time: a retry may succeed."""

    reason = "database_away"


class NotMigratedError(StoreError):
    """The schema is older than this version of the service needs."""

    reason = "not_migrated"

    def __init__(self) -> None:
        super().__init__(f"the database does not have this version's schema yet: run `{COMMAND}`")


class DatabaseFullError(StoreError):
    """The database is full; nothing was written."""

    reason = "database_full"
