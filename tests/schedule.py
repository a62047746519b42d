"""The order of the tests over the workers of pytest-xdist: whole modules, the longest first, so that the workers finish together.

Tests of one module share its server. Modules that mostly wait have a worker of their own, the third one, so that both cores stay busy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.workermanage import WorkerController

#: One worker builds the image once, one renders the manifests once, and one starts the S3 server once.
FOLDERS = ("tests/tools/podman/", "tests/k8s/", "tests/app/integrations/vault/")
#: Modules and folders that take longest, the longest first.
LONGEST = (
    "tests/tools/podman/",
    "tests/benchmarks/test_benchmarks.py",
    "tests/http/test_compiled.py",
    "tests/app/api/test_keys.py",
    "tests/app/reporting/test_users_served.py",
    "tests/faults/test_gunicorn_workers.py",
    "tests/faults/test_exporter.py",
    "tests/gunicorn/test_gunicorn_conf.py",
    "tests/faults/test_gunicorn_masters.py",
    "tests/k8s/",
    "tests/gunicorn/test_metrics_directory.py",
    "tests/faults/test_uvicorn_workers.py",
    "tests/app/integrations/vault/",
    "tests/app/reporting/test_usage.py",
    "tests/app/store/test_served.py",
    "tests/tools/load/test_served.py",
    "tests/app/api/test_openapi.py",
    "tests/app/api/test_vault.py",
    "tests/gunicorn/test_accounts.py",
    "tests/scrape/test_endpoint.py",
    "tests/prometheus/test_rules.py",
    "tests/app/api/test_long_bodies.py",
    "tests/app/test_catalogue_served.py",
    "tests/faults/test_children.py",
    "tests/app/store/test_migrator.py",
    "tests/app/reporting/test_agents.py",
    "tests/gunicorn/test_bind.py",
)
#: Modules that mostly wait for an interval or a timeout, the longest first.
WAITING = (
    "tests/prometheus/test_live.py",
    "tests/app/api/test_bill.py",
    "tests/prometheus/test_blind.py",
    "tests/app/integrations/ryot/test_remote.py",
    "tests/gpu/test_served.py",
    "tests/app/test_breakers_served.py",
    "tests/multiprocess/sampling/test_sampler.py",
    "tests/observe/test_command.py",
    "tests/multiprocess/sampling/test_custom_collectors.py",
    "tests/grafana/test_live.py",
    "tests/app/store/test_database.py",
    "tests/app/api/test_body_slots.py",
    "tests/gpu/test_exporter.py",
)


class Schedule(LoadScopeScheduling):
    """Gives a worker that is free the first module of its order that is left. A long run, whose tests are many and long, splits modules."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._one_by_one = "PROOF_REPEATS" in os.environ

    def _split_scope(self, nodeid: str) -> str:
        folder = next((folder for folder in FOLDERS if nodeid.startswith(folder)), None)
        return folder or (nodeid if self._one_by_one else nodeid.partition("::")[0])

    def _assign_work_unit(self, node: WorkerController) -> None:
        waits = self.numnodes < 3 or node.gateway.id == f"gw{self.numnodes - 1}"
        first, last = (WAITING + LONGEST, ()) if waits else (LONGEST, WAITING)
        chosen = min(self.workqueue, key=lambda scope: _rank(scope.partition("::")[0], first, last))
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)


def _rank(module: str, first: tuple[str, ...], last: tuple[str, ...]) -> int:
    """Where a module comes: in the order of the first ones, then what is in neither, then the last ones."""
    if module in first:
        return first.index(module)
    return len(first) + (1 + last.index(module) if module in last else 0)
