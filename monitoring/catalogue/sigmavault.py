"""ΣVAULT: encrypted storage. The totals are read from the store, not added up by workers."""

from .buckets import WORK_SECONDS
from .declaration import Rule, counter, gauge, histogram

_SNAPSHOT_SECONDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0)

sigmavault_operations = counter(
    "sigmavault_operations",
    "Operations on objects (store, retrieve, delete) by outcome: success, error, timeout, cancelled.",
    ("operation", "status"),
)
sigmavault_operation_duration_seconds = histogram(
    "sigmavault_operation_duration_seconds", "Duration of an operation with any outcome.", WORK_SECONDS, ("operation",)
)
sigmavault_encryption_duration_seconds = histogram(
    "sigmavault_encryption_duration_seconds", "Time to encrypt or to decrypt one object's bytes.", WORK_SECONDS, ("operation",)
)
sigmavault_snapshots = counter(
    "sigmavault_snapshots", "Snapshots (backup, restore) by outcome: success, error, timeout, cancelled.", ("operation", "status")
)
sigmavault_snapshot_duration_seconds = histogram(
    "sigmavault_snapshot_duration_seconds",
    "Duration of a snapshot, by outcome.",
    _SNAPSHOT_SECONDS,
    ("operation", "status"),
)
# Existing queries use these two names, which end like those of counters.
sigmavault_storage_bytes_total = gauge("sigmavault_storage_bytes_total", "Bytes that the store holds.", Rule.ONE)
sigmavault_objects_total = gauge("sigmavault_objects_total", "Objects that the store holds.", Rule.ONE)
