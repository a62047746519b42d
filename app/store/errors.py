"""What can be wrong with the database itself. Each text is one line that says what to do, and never a password."""

COMMAND = "python -m app.migrate"


class StoreError(Exception):
    """A request that needs the database cannot be served."""

    reason = "database_failed"


class DatabaseAwayError(StoreError):
    """It cannot be reached, or does not answer in time: the same request may work in a moment."""

    reason = "database_away"


class NotMigratedError(StoreError):
    """Its schema is older than this version of the service needs."""

    reason = "not_migrated"

    def __init__(self) -> None:
        """Name the command."""
        super().__init__(f"the database does not have this version's schema yet: run `{COMMAND}`")


class DatabaseFullError(StoreError):
    """Nothing more can be written, and nothing was."""

    reason = "database_full"
