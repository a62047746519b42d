"""The parts of the mix, one per part of the service: each begins, tells stories of a few calls each, and cleans up."""

from app.load.parts.agents import Agents
from app.load.parts.compression import Compression
from app.load.parts.dictionaries import Dictionaries
from app.load.parts.errors import Errors
from app.load.parts.health import Health
from app.load.parts.keys import Keys
from app.load.parts.models import Models
from app.load.parts.part import Part, Setting
from app.load.parts.prices import Prices
from app.load.parts.slow import Slow
from app.load.parts.snapshots import Snapshots
from app.load.parts.vault import Vault

PARTS: tuple[type[Part], ...] = (
    Health,
    Errors,
    Keys,
    Prices,
    Models,
    Compression,
    Dictionaries,
    Vault,
    Snapshots,
    Agents,
    Slow,
)
"""In the order in which they begin; they end in the opposite one."""

__all__ = ["PARTS", "Part", "Setting"]
