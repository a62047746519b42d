"""What docs/runbooks/blind.md says that an operator sees when a part of the monitoring is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from monitoring.prometheus import Configuration
    from tests.gunicorn_service import Gunicorn
    from tests.prometheus.live import Live

    Observe = Callable[[Configuration], AbstractContextManager[Live]]


def said_of_target(live: Live) -> str:
    (target,) = [each for each in live.prometheus("targets")["activeTargets"] if each["labels"]["job"] == "neurectomy"]
    return str(target["lastError"])


def test_a_wrong_token_and_a_target_that_is_gone(
    gunicorn: Gunicorn, configuration: Configuration, tmp_path: Path, observe: Observe
) -> None:
    file = tmp_path / "token"
    file.write_text("wrong")
    gunicorn.begin(METRICS_TOKEN="right-token")
    with observe(replace(configuration, token_file=str(file))) as live:
        live.wait_told("MetricsTargetDown")
        assert "401 Unauthorized" in said_of_target(live)
        file.write_text("right-token")
        live.wait_resolved("MetricsTargetDown")  # nothing was restarted
        assert said_of_target(live) == ""
        wait_until(lambda: live.query("multiproc_workers == 2"), "it is scraped", 180)

        gunicorn.end()
        wait_until(lambda: "connection refused" in said_of_target(live), "the target is gone", 180)
        wait_until(lambda: live.webhook.last("MetricsTargetDown") == {"firing"}, "and that is told", 180)
        assert live.query("multiproc_workers") == []


def test_alertmanager_and_prometheus_are_gone_and_come_back(gunicorn: Gunicorn, configuration: Configuration, observe: Observe) -> None:
    gunicorn.start()
    with observe(configuration) as live:
        alertmanager, prometheus = live.children
        wait_until(lambda: "Watchdog" in live.active(), "alerting works", 180)
        gunicorn.compress()
        wait_until(lambda: live.query('neurectomy_http_requests_total{endpoint="/v1/compress"} == 1'), "it is counted", 180)
        prometheus.process.kill()
        for _ in range(3):
            gunicorn.compress()  # the service does not notice
        wait_until(lambda: live.active() == set(), "nothing fires any more, the watchdog neither", 180)
        alertmanager.process.kill()
    with observe(configuration) as live:
        wait_until(lambda: live.query('neurectomy_http_requests_total{endpoint="/v1/compress"} == 4'), "nothing is lost", 180)
        assert float(live.query('increase(neurectomy_http_requests_total{endpoint="/v1/compress"}[10m])')[0]["value"][1]) > 0
        wait_until(lambda: "Watchdog" in live.active(), "alerting works again", 180)
        live.children[0].process.kill()
        wait_until(lambda: live.query("prometheus_notifications_errors_total > 0"), "what could not be told is counted", 180)
