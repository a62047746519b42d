"""What can go wrong with stored objects. Each text says what was wrong, where, and what to do."""


class VaultError(Exception):
    """`reason` is one fixed word for programs."""

    reason = "vault_failed"


class KeyFileError(VaultError):
    """VAULT_KEY_FILE is not set, or cannot be used."""

    reason = "no_vault_key"


class InvalidNameError(VaultError):
    """A name that no object can have."""

    reason = "invalid_name"


class UnknownObjectError(VaultError):
    """There is no object of this name."""

    reason = "unknown_object"


class UnknownSnapshotError(VaultError):
    """There is no snapshot of this id."""

    reason = "unknown_snapshot"


class TamperedError(VaultError):
    """What the store holds is not what was stored."""

    reason = "tampered"


class StorageFullError(VaultError):
    """The store has no room; nothing was stored."""

    reason = "storage_full"


class UnavailableError(VaultError):
    """The store cannot be reached, or refuses; worth another try."""

    reason = "storage_unavailable"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """Keep in how many seconds to come again, where that is known."""
        super().__init__(message)
        self.retry_after = retry_after
