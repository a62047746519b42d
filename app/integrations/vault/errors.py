"""Errors of stored objects. Each text names the cause, the place, and the cure."""


class VaultError(Exception):
    """`reason` is one fixed word for programs."""

    reason = "vault_failed"


class KeyFileError(VaultError):
    """VAULT_KEY_FILE is not set, or cannot be used."""

    reason = "no_vault_key"


class InvalidNameError(VaultError):
    """An invalid name of an object."""

    reason = "invalid_name"


class UnknownObjectError(VaultError):
    """No object has this name."""

    reason = "unknown_object"


class UnknownSnapshotError(VaultError):
    """No snapshot has this id."""

    reason = "unknown_snapshot"


class TamperedError(VaultError):
    """The stored bytes were changed or damaged."""

    reason = "tampered"


class StorageFullError(VaultError):
    """The store is full; nothing was stored."""

    reason = "storage_full"


class UnavailableError(VaultError):
    """The store cannot be reached, or refuses; a retry may succeed."""

    reason = "storage_unavailable"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """`retry_after` is in seconds, or None if unknown."""
        super().__init__(message)
        self.retry_after = retry_after
