"""The database: SQLite in one file, or PostgreSQL; the same statements on both.

Importing SQLAlchemy costs a process half a second. The modules that need it are loaded at their first use, as attributes of this package:
by then `database` has imported SQLAlchemy in a thread. `database` itself, `database_url`, `errors` and `sqlite_migration` do without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from app.store import activity as activity
    from app.store import agents as agents
    from app.store import billing as billing
    from app.store import keys as keys
    from app.store import migrator as migrator

_LAZY = frozenset({"activity", "agents", "billing", "keys", "migrator"})


def __getattr__(name: str) -> ModuleType:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
