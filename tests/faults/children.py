"""What the service's children count; apart from the service so that a spawned child stays small."""

# ruff: noqa: E402 - install() comes before anything that imports prometheus_client
from __future__ import annotations

from monitoring import multiprocess

multiprocess.install()  # before prometheus_client can be imported

from prometheus_client import Counter

CHILDREN = Counter("faults_children", "Increments that children of a worker made.", ["method"])
