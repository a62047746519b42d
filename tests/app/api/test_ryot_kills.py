"""Workers are killed under calls of models: whatever a client has received, to the last token of a cut stream, stays counted."""

from __future__ import annotations

import random
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.app.model_caller import TOKENS, Caller
from tests.processes import send, wait_dead, wait_until

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn

KILLS = 5


def counted(gunicorn: Gunicorn, family: str) -> float:
    lines = gunicorn.scrape().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"neurectomy_ryot_{family}_total{{"))


@pytest.mark.usefixtures("preloaded")
def test_calls_and_tokens_stay_counted_when_workers_are_killed(gunicorn: Gunicorn) -> None:
    master = gunicorn.start(WEB_CONCURRENCY="3")
    callers = [Caller(gunicorn.port) for _ in range(4)]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            goal = sum(caller.answered for caller in callers) + 20
            wait_until(lambda goal=goal: sum(caller.answered for caller in callers) >= goal, "calls are answered")
            wait_until(lambda: len(gunicorn.workers(master)) == 3, "three workers run")
            victim = random.choice(gunicorn.workers(master))
            send(victim, signal.SIGKILL)
            wait_dead(victim)
    finally:
        for caller in callers:
            caller.stop.set()
        for thread in threads:
            thread.join()
    sent, answered, tokens = (sum(getattr(caller, name) for caller in callers) for name in ("sent", "answered", "tokens"))
    # Calls that were cut off may still be counted as cancelled; nothing else is under way.
    assert answered <= counted(gunicorn, "requests") <= sent, (answered, sent)
    assert tokens <= counted(gunicorn, "tokens_generated") <= sent * 2 * TOKENS, (tokens, sent)
    print(f"{sent=} {answered=} {tokens=} counted={counted(gunicorn, 'requests')}, {counted(gunicorn, 'tokens_generated')}")
