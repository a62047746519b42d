"""`Gauge.set_function()` under many processes: each process that holds a slot samples its own function, off its event loop.

The sample goes into the process's slot and is merged by the mode of the gauge. While a function raises, or has not returned for
`OVERDUE_SECONDS`, the value of this process is hidden: no stale value stays, and those of other processes are not affected.
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

            It may be called in any thread. It takes no slot: sampling starts when the process takes one.
            """
            self._raise_if_not_observable()
            watch(self, f)

        metrics.Gauge.set_function = set_function  # type: ignore[method-assign]

    def watch(self, gauge: Any, f: Callable[[], float]) -> None:
        """Sample `f` for the values of `gauge`."""
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
            # A collection of the gauge itself, by a registry of this process alone, calls the function, as upstream does.
            gauge._child_samples = lambda: (Sample("", {}, float(f()), None, None),)
            self._gauges.add(gauge)
        self._sampler.wake()

    def adopt(self, gauge: Any) -> None:
        """Sample a gauge that got its function before `install()`: upstream keeps it in a method of the gauge object."""
        samples = vars(gauge).pop("_child_samples", None)
        function = getattr(samples, "__func__", None)
        if function is not None:
            self.watch(gauge, dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))["f"].cell_contents)

    def forget(self, gauge: Any) -> None:
        """Stop calling the function of a removed metric, if it is a gauge with one."""
        with fork.mutex:
            if gauge in self._gauges:
                self._gauges.discard(gauge)
                gauge._sampled = None

    def _jobs(self) -> list[Job]:
        with fork.mutex:
            return [gauge._sampled for gauge in self._gauges]


def _nothing(*_: Any, **__: Any) -> None:
    """Ignore a call of `set`, `inc` or `dec` of a gauge with a function."""
