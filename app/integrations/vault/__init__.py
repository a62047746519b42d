"""ΣVAULT: objects that are encrypted here and stored in a folder or in S3, which never see a key or a plain byte.

An object is three things in the store: a *pointer* under its name, the *blob* that the pointer names, and the blob's data key, wrapped
with a key of VAULT_KEY_FILE. Blobs never change. Storing an object ends with the atomic replacement of its small pointer.
"""

from pathlib import Path

from app.integrations.vault.errors import (
    InvalidNameError,
    KeyFileError,
    StorageFullError,
    TamperedError,
    UnavailableError,
    UnknownObjectError,
    UnknownSnapshotError,
    VaultError,
)
from app.integrations.vault.keyring import Keyring
from app.integrations.vault.object_storage import ObjectStorage
from app.integrations.vault.snapshots import Snapshot, Snapshots
from app.integrations.vault.vault import Retrieval, Vault
from monitoring.breaker import Policy

__all__ = [
    "InvalidNameError",
    "KeyFileError",
    "Retrieval",
    "Snapshot",
    "Snapshots",
    "StorageFullError",
    "TamperedError",
    "UnavailableError",
    "UnknownObjectError",
    "UnknownSnapshotError",
    "Vault",
    "VaultError",
    "create",
]


def create(url: str | None, data_dir: str, key_file: str | None, policy: Policy | None = None) -> Vault:
    """Return the vault of these settings: VAULT_URL or a folder in DATA_DIR; VAULT_KEY_FILE; the policy of S3's circuit breaker."""
    storage = ObjectStorage(url or (Path(data_dir).absolute() / "vault").as_uri(), policy)
    return Vault(storage, Keyring(Path(key_file) if key_file else None))
