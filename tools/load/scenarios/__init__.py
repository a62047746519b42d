"""The scenarios, one for each part of the service: each sets up, runs steps of a few requests, and cleans up."""

from tools.load.scenarios.agents import Agents
from tools.load.scenarios.compression import Compression
from tools.load.scenarios.dictionaries import Dictionaries
from tools.load.scenarios.errors import Errors
from tools.load.scenarios.health import Health
from tools.load.scenarios.keys import Keys
from tools.load.scenarios.models import Models
from tools.load.scenarios.prices import Prices
from tools.load.scenarios.scenario import Context, Scenario
from tools.load.scenarios.slow import Slow
from tools.load.scenarios.snapshots import Snapshots
from tools.load.scenarios.vault import Vault

SCENARIOS: tuple[type[Scenario], ...] = (
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
"""In the order of their set-up; they clean up in the reverse order."""

__all__ = ["SCENARIOS", "Context", "Scenario"]
