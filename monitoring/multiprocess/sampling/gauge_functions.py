"""`Gauge.set_function()` under many processes: each process that holds a slot samples its own function, off its event loop.

The sample goes into the process's slot and is merged by the gauge's own mode. A function that raises, or has not returned for
`OVERDUE_SECONDS`, takes what this process said out until it answers again: no stale value stays, and nobody else's goes.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from prometheus_client import metrics
from prometheus_client.samples import Sample

from monitoring.multiprocess.linux import fork

from .job_runner import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sampler import Sampler


class GaugeFunctions:
    """The functions of this process's gauges."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._gauges: weakref.WeakSet[Any] = weakref.WeakSet()
        sampler.sources.append(self._jobs)

    def patch(self) -> None:
        """Sample the functions that `set_function` gets from now on. Once, from `install()`."""
        watch = self.watch

        def set_function(self: Any, f: Callable[[], float]) -> None:
            """Call the function every few seconds in each worker for the gauge's value; all other methods of the gauge become no-ops.

            It may be called in any thread. It takes no slot: sampling begins when the process takes one.
            """
            self._raise_if_not_observable()
            watch(self, f)

        metrics.Gauge.set_function = set_function  # type: ignore[method-assign]

    def watch(self, gauge: Any, f: Callable[[], float]) -> None:
        """Give `gauge` its values from `f`."""
        reference = weakref.ref(gauge)

        def call() -> None:
            value = float(f())
            sampled = reference()
            if sampled is not None and sampled._sampled is job:
                sampled._value.set(value, timestamp=time.time())

        def end() -> None:
            sampled = reference()
            with fork.mutex:  # no file is being rewritten
                if sampled is not None and sampled._sampled is job:
                    sampled._value.withdraw()

        job = Job(f"the function of gauge {gauge._name}{gauge._labelvalues or ''}", call, end)
        with fork.mutex:
            gauge._sampled = job
            gauge.set = gauge.inc = gauge.dec = _nothing
            # Who collects the gauge itself, as a registry of this process alone does, has the function's word of now, as upstream.
            gauge._child_samples = lambda: (Sample("", {}, float(f()), None, None),)
            self._gauges.add(gauge)
        self._sampler.wake()

    def adopt(self, gauge: Any) -> None:
        """A gauge that was given its function before `install()`: upstream keeps it in a method of the gauge's own."""
        samples = vars(gauge).pop("_child_samples", None)
        function = getattr(samples, "__func__", None)
        if function is not None:
            self.watch(gauge, dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))["f"].cell_contents)

    def forget(self, gauge: Any) -> None:
        """A metric was removed: where it is a gauge with a function, that is not called any more."""
        with fork.mutex:
            if gauge in self._gauges:
                self._gauges.discard(gauge)
                gauge._sampled = None

    def _jobs(self) -> list[Job]:
        with fork.mutex:
            return [gauge._sampled for gauge in self._gauges]


def _nothing(*_: Any, **__: Any) -> None:
    """What `set`, `inc` and `dec` do to a gauge with a function."""
