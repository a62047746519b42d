"""The scenarios, one for each part of the service: each sets up, runs steps of a few requests, and cleans up."""

from tools.load.scenarios.agents import AgentsScenario
from tools.load.scenarios.compression import CompressionScenario
from tools.load.scenarios.dictionaries import DictionariesScenario
from tools.load.scenarios.errors import ErrorsScenario
from tools.load.scenarios.health import HealthScenario
from tools.load.scenarios.keys import KeysScenario
from tools.load.scenarios.models import ModelsScenario
from tools.load.scenarios.prices import PricesScenario
from tools.load.scenarios.scenario import Context, Scenario
from tools.load.scenarios.slow import SlowScenario
from tools.load.scenarios.snapshots import SnapshotsScenario
from tools.load.scenarios.vault import VaultScenario

SCENARIOS: tuple[type[Scenario], ...] = (
    HealthScenario,
    ErrorsScenario,
    KeysScenario,
    PricesScenario,
    ModelsScenario,
    CompressionScenario,
    DictionariesScenario,
    VaultScenario,
    SnapshotsScenario,
    AgentsScenario,
    SlowScenario,
)
"""In the order of their set-up; they clean up in the reverse order."""

__all__ = ["SCENARIOS", "Context", "Scenario"]
