"""Errors of stored objects. Each text names the cause, the place, and the cure."""

from app.errors import ReasonError


class VaultError(ReasonError, reason="vault_failed"):
    """A request for stored objects failed."""


class KeyFileError(VaultError, reason="no_vault_key"):
    """VAULT_KEY_FILE is not set, or cannot be used."""


class InvalidNameError(VaultError, reason="invalid_name"):
    """An invalid name of an object."""


class UnknownObjectError(VaultError, reason="unknown_object"):
    """No object has this name."""


class UnknownSnapshotError(VaultError, reason="unknown_snapshot"):
    """No snapshot has this id."""


class TamperedError(VaultError, reason="tampered"):
    """The stored bytes were changed or damaged."""


class StorageFullError(VaultError, reason="storage_full"):
    """The store is full; nothing was stored."""


class UnavailableError(VaultError, reason="storage_unavailable"):
    """The store cannot be reached, or refuses; a retry may succeed."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """`retry_after` is in seconds, or None if unknown."""
        super().__init__(message)
        self.retry_after = retry_after
