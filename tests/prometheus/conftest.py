"""The real programs, with all times divided by thirty."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from monitoring.observe.stack import free_address
from monitoring.prometheus import Configuration, Times
from tests.conftest import built_environment
from tests.processes import MARKER, end_marked
from tests.prometheus.executables import program
from tests.prometheus.live import Kubelet, Webhook, live, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn
    from tests.prometheus.live import Live

FASTER = 30


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with serve(Webhook) as server:
        yield server


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    with serve(Kubelet) as server:
        yield server


@pytest.fixture
def configuration(gunicorn: Gunicorn, webhook: Webhook) -> Configuration:
    return replace(
        Configuration(),
        times=Times().faster(FASTER),
        targets=(f"127.0.0.1:{gunicorn.metrics_port}",),
        webhook_url=webhook.url,
        prometheus=free_address(),
        alertmanagers=(free_address(),),
    )


@pytest.fixture
def observe(webhook: Webhook, tmp_path: Path) -> Iterator[Callable[[Configuration], AbstractContextManager[Live]]]:
    """Run Prometheus and Alertmanager of a configuration."""
    for name in ("prometheus", "alertmanager"):
        program(name)
    marker = uuid.uuid4().hex
    yield lambda configuration: live(configuration, webhook, tmp_path / "observed", {**built_environment(), MARKER: marker})
    end_marked(marker)
