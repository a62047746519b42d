"""The seed's alerts on the real service: things are broken, the webhook is told; they are mended, and it is told that, too."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from tests.app.openai_server import LINGERING_SECONDS, openai_server
from tests.processes import wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from monitoring.prometheus import Configuration
    from tests.gunicorn_service import Gunicorn
    from tests.prometheus.live import Kubelet, Live

JSON = {"Content-Type": "application/json"}
MODELS = {"RyotLLMHighErrorRate", "RyotLLMHighLatency"}
CALLED = {"HighErrorRate", "HighLatency", "HighCircuitBreakerFailures", *MODELS}
PODS = {"PodCPUUsageHigh", "PodMemoryUsageHigh"}


class Callers:
    """Call a service again and again until the block ends: well, and as long as they are set, also failing and slow."""

    def __init__(self, gunicorn: Gunicorn) -> None:
        self.gunicorn, self.failing, self.slow, self._ended = gunicorn, threading.Event(), threading.Event(), threading.Event()
        work = (self._well, self._models, self._slow_model, self._slow_client)
        self._threads = [threading.Thread(target=self._again, args=(each,)) for each in work]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _again(self, what: Callable[[], None]) -> None:
        while not self._ended.wait(0.1):
            with contextlib.suppress(OSError, http.client.HTTPException):  # it is started anew meanwhile
                what()

    def _well(self) -> None:
        ask(self.gunicorn.port, "GET", "/v1/dictionaries")

    def _models(self) -> None:
        self._call("fails" if self.failing.is_set() else "good")

    def _slow_model(self) -> None:
        if self.slow.is_set():
            self._call("lingers")

    def _slow_client(self) -> None:
        if self.slow.is_set():
            ask(self.gunicorn.port, "POST", "/v1/compress", dripping())

    def _call(self, model: str) -> None:
        ask(self.gunicorn.port, "POST", "/v1/completions", json.dumps({"model": model, "prompt": "x"}).encode(), JSON)


def dripping() -> Iterator[bytes]:
    """Give a body whose client takes its time: a request is not over before its last byte."""
    for _ in range(3):
        time.sleep(LINGERING_SECONDS / 3)
        yield b"a word " * 10


def test_the_seeds_alerts_reach_the_webhook_and_end(
    gunicorn: Gunicorn,
    configuration: Configuration,
    kubelet: Kubelet,
    observe: Callable[[Configuration], AbstractContextManager[Live]],
) -> None:
    # The seed's own thresholds are promtool's cases: here nobody waits half a minute for each call.
    # The breaker's own times are not divided, so what is told of it lasts longer than a probe and its retries.
    times = replace(configuration.times, breaker_keep=20)
    configuration = replace(configuration, times=times, cadvisor=(kubelet.address,), latency_seconds=1, ryot_latency_seconds=1)
    with openai_server() as backend, observe(configuration) as live:
        gunicorn.start(RYOT_BASE_URL=backend.url, RYOT_BREAKER="failures=5 rate=0.01 open_seconds=2", LOG_LEVEL="error")
        assert ask(gunicorn.port, "POST", "/v1/agents", b'{"id": "painter"}', JSON).status == 201
        with Callers(gunicorn) as callers:
            wait_until(lambda: live.query("neurectomy_agent_healthy == 1"), "the agent is shown", 180)
            assert live.firing() <= {"Watchdog", "MetricsTargetDown"}

            callers.failing.set()  # and nothing slow: a slow model's answer is a probe that closes the breaker
            kubelet.cpus, kubelet.memory_share = 1.9, 0.9
            live.wait_told("CircuitBreakerOpen")
            assert live.webhook.of("CircuitBreakerOpen", service="ryot", cluster="local", job="neurectomy", severity="critical")
            wait_until(lambda: "RyotLLMHighErrorRate" in live.muted(), "the open breaker mutes its service's alert", 180)
            assert not live.webhook.of("RyotLLMHighErrorRate")

            gunicorn.end()
            never = "failures=1000000 rate=0.01"  # it only counts
            gunicorn.start(RYOT_BASE_URL=backend.url, RYOT_BREAKER=never, LOG_LEVEL="error")
            callers.slow.set()
            live.wait_told(*CALLED, *PODS, "AgentDown")
            live.wait_resolved("CircuitBreakerOpen")
            assert {alert["labels"]["agent"] for alert in live.webhook.of("AgentDown")} == {"painter"}
            assert {alert["labels"]["pod"] for name in PODS for alert in live.webhook.of(name)} == {"neurectomy-7d9c6b5f4-x2x8k"}
            assert {alert["labels"]["container"] for name in PODS for alert in live.webhook.of(name)} == {"service"}
            slow = {"/v1/compress", "/v1/completions"}
            wait_until(lambda: {alert["labels"]["endpoint"] for alert in live.webhook.of("HighLatency")} >= slow, "both are slow", 180)
            wait_until(lambda: live.webhook.of("RyotLLMHighLatency", model="lingers"), "the slow model is slow", 180)
            told = live.webhook.of("RyotLLMHighErrorRate", model="fails", service="ryot")[0]["annotations"]
            assert told["summary"] == "100% of the calls of fails fail"
            assert told["runbook_url"].endswith("/docs/runbooks/RyotLLMHighErrorRate.md")

            callers.failing.clear()
            callers.slow.clear()
            kubelet.cpus, kubelet.memory_share = 0.1, 0.1
            assert ask(gunicorn.port, "POST", "/v1/agents/painter/heartbeat").status == 204
            live.wait_resolved(*CALLED, *PODS, "AgentDown")
