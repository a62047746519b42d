"""A worker of the process tests: does what each line of stdin says and answers with a line."""

from __future__ import annotations

import sys
import time
from typing import Any

STATE = "neurectomy_circuit_breaker_state{"


def fail() -> None:
    """Be a service that is down."""
    raise ValueError


def main(service: str, **policy: float) -> None:
    """Install, then obey."""
    from monitoring import multiprocess

    multiprocess.install(sample_seconds=0.5)
    from monitoring import metrics
    from monitoring.breaker import Breaker, CircuitOpenError, Policy

    breaker = Breaker(service, Policy(**policy))  # type: ignore[arg-type]
    metrics.circuit_breaker_calls.labels(service, "success").inc(0)
    held: list[Any] = []
    for line in sys.stdin:
        order, answer = line.strip(), ""
        try:
            if order == "begin":
                held.append(breaker.call())
                held[-1].__enter__()
            elif order == "wait":  # as one that serves: it asks all the time, and says when it was refused first
                while True:
                    with breaker.call():
                        time.sleep(0.001)
            elif order == "text":
                lines = multiprocess.MergedCollector(None).render().decode().splitlines()
                answer = "|".join(each for each in lines if each.startswith(("neurectomy_circuit_breaker_transitions_total{", STATE)))
            else:
                with breaker.call():
                    if order == "fail":
                        fail()
        except CircuitOpenError as error:
            answer = f"refused {error.retry_after} {time.monotonic()}"
        except ValueError:
            answer = f"failed {time.monotonic()}"
        print(answer or "done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], **{name: float(value) for name, _, value in (each.partition("=") for each in sys.argv[2:])})
