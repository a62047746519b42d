"""The parts of the mix, one per part of the service: each begins, tells stories of a few calls each, and cleans up."""

from tools.load.scenarios.agents import Agents
from tools.load.scenarios.compression import Compression
from tools.load.scenarios.dictionaries import Dictionaries
from tools.load.scenarios.errors import Errors
from tools.load.scenarios.health import Health
from tools.load.scenarios.keys import Keys
from tools.load.scenarios.models import Models
from tools.load.scenarios.prices import Prices
from tools.load.scenarios.scenario import Part, Setting
from tools.load.scenarios.slow import Slow
from tools.load.scenarios.snapshots import Snapshots
from tools.load.scenarios.vault import Vault

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
