"""The breaker that an application uses: as a decorator, or around a block.

A call through a closed breaker looks at one word and counts in memory; only a failure, and a breaker that is not closed, take the lock.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from monitoring.catalogue import breaker as families
from monitoring.log_once import LogOnce
from monitoring.tracking.children import child
from monitoring.tracking.wrapping import SUCCESS, decorated

from . import state_layout as layout
from .policy import Policy
from .state_file import StateFile
from .transition_counter import count_transitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    #: Called with the service and the names of the states, by the process that changed it.
    Listener = Callable[[str, str, str], None]

_F = TypeVar("_F", bound="Callable[..., Any]")

_PROBE_RETRY_SECONDS = 1.0
"""The time after which a call may come again while another one probes."""
_BILLION = 1_000_000_000
_log = logging.getLogger("monitoring.breaker")


class CircuitOpenError(Exception):
    """The call was refused without being tried. The next one may be let through in `retry_after` seconds."""

    def __init__(self, service: str, retry_after: float) -> None:
        super().__init__(service, retry_after)
        self.service = service
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.service}: failed too often. It is not called again for {self.retry_after:.1f} s"


class Breaker:
    """The breaker of one service: workers of an instance that use the same name share one.

    While it is open all calls raise CircuitOpenError. The first call after that is the probe: the breaker is half-open, other calls are
    refused, and the end of the probe closes it or opens it again. If the prober dies, the next call probes. An open breaker without
    calls stays open.

    Exceptions of the types `counts` that are none of `ignores` are failures; other Exceptions are answers of the service. A
    BaseException, such as a cancellation, counts as neither. Listeners are called in the process that made the change, and must not
    block. All threads and event loops of a process may use one Breaker, made before or after a fork. `clock` returns nanoseconds that
    never go back.
    """

    def __init__(
        self,
        service: str,
        policy: Policy | None = None,
        *,
        counts: tuple[type[BaseException], ...] = (Exception,),
        ignores: tuple[type[BaseException], ...] = (),
        listeners: Iterable[Listener] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.service = service
        self.listeners = list(listeners)
        self._policy = policy or Policy()
        self._width = int(self._policy.window_seconds * _BILLION / layout.BUCKETS)
        self._open_nanoseconds = int(self._policy.open_seconds * _BILLION)
        self._counts, self._ignores, self._clock = counts, ignores, clock
        self._shared = StateFile(service, child(families.circuit_breaker_rebuilt, service).inc)
        self._problems = LogOnce(_log)
        #: The word of the state that this process has shown last.
        self._seen = 0
        #: The same word while the state is closed, otherwise a word that no state has.
        self._closed = -1
        self._succeeded = child(families.circuit_breaker_calls, service, "success")
        self._state = child(families.circuit_breaker_state, service)
        # Sampled every few seconds from the file, so that it makes no difference which process made the change, or died.
        reference = weakref.ref(self)
        self._state.set_function(lambda: _state_now(reference))

    @property
    def state(self) -> int:
        """CLOSED, OPEN or HALF_OPEN."""
        self._look()
        return layout.state_of(self._seen)

    def call(self) -> Call:
        """Return the block of one call, for `with` and `async with`; a refused call raises CircuitOpenError on entry."""
        return Call(self)

    def fail(self) -> None:
        """Count a failure that shows after its call is over, as when a stream breaks off."""
        if not self._seen:
            self._look()
        self.failed(layout.generation_of(self._seen))

    def __call__(self, function: _F) -> _F:
        """Decorate a function, coroutine function or (async) generator: each call of it is one call through the breaker."""

        def begin(_arguments: object, _keywords: object) -> Callable[[str, object], None]:
            call = Call(self)
            call.__enter__()

            def finish(outcome: str, _result: object) -> None:
                call.end(None if outcome == SUCCESS else sys.exc_info()[1])

            return finish

        made: _F = decorated(function, lambda _function: begin)  # type: ignore[assignment]
        return made

    def admit(self) -> tuple[int, int | None]:
        """Return the generation of a call that is let through, and its right to probe, if it has that; CircuitOpenError otherwise."""
        try:
            current = self._shared.words[layout.CURRENT]
            if current == self._closed:
                return current >> 2, None
            if current == self._seen and layout.state_of(current) == layout.OPEN:
                left = self._left(self._shared.words)
                if left > 0:
                    self._refuse(left / _BILLION)
        except ValueError:
            pass  # another thread is mapping the file again
        try:
            return self._admit()
        except TimeoutError:
            # The process that changes the state is stopped: a call that is let through does less harm than one that is refused.
            return 0, None

    def answered(self, generation: int) -> None:
        """Count a call that the service answered."""
        try:
            self._shared.record(layout.key_of(generation, self._clock(), self._width), 0)
        except TimeoutError as error:
            self._stopped(error)
        self._succeeded._value.inc(1.0)

    def failed(self, generation: int) -> None:
        """Count a failure, and open the breaker if it was one too many."""
        newest, policy = layout.key_of(generation, self._clock(), self._width), self._policy
        self.count("failure")
        try:
            with self._changing() as words:
                self._shared.record_here(newest, 1)
                if words[layout.CURRENT] == layout.word(generation, layout.CLOSED):
                    calls, failures = layout.recorded(words, newest)
                    if failures >= policy.failures and calls >= policy.minimum_calls and failures >= policy.rate * calls:
                        self._open(words)
        except TimeoutError as error:
            self._stopped(error)

    def probed(self, generation: int, held: int, *, failure: bool | None) -> None:
        """End a probe by its failure or success; None leaves the decision to the next probe."""
        try:
            if failure is not None:
                self.count("failure" if failure else "success")
                with self._changing() as words:
                    if words[layout.CURRENT] != layout.word(generation, layout.HALF_OPEN):
                        return
                    if failure:
                        self._open(words)
                    else:
                        layout.change(words, layout.CLOSED, 0)
        except TimeoutError as error:
            self._stopped(error)
        finally:
            self._shared.drop(held)

    def judge(self, error: BaseException | None) -> bool | None:
        """Return whether a call that ended like this is a failure of the service; None where it is no evidence."""
        if error is None:
            return False
        if isinstance(error, self._counts) and not isinstance(error, self._ignores):
            return True
        return False if isinstance(error, Exception) else None

    def count(self, result: str) -> None:
        """Count a call of this result."""
        if result == "failure":
            child(families.circuit_breaker_failures, self.service).inc()
        child(families.circuit_breaker_calls, self.service, result).inc()

    def _look(self) -> None:
        with contextlib.suppress(TimeoutError), self._shared.editing() as words:
            self._publish(words)

    def _admit(self) -> tuple[int, int | None]:
        refused, held = 0.0, None
        try:
            with self._changing() as words:
                current = words[layout.CURRENT]
                generation, state = layout.generation_of(current), layout.state_of(current)
                if state == layout.CLOSED:
                    return generation, None
                left = self._left(words) if state == layout.OPEN else 0
                held = None if left > 0 else self._shared.try_probe()
                if held is None:
                    refused = left / _BILLION if left > 0 else _PROBE_RETRY_SECONDS
                elif state == layout.OPEN:
                    layout.change(words, layout.HALF_OPEN, 0)
                    generation += 1
        except BaseException:  # a signal, or a listener that exits
            if held is not None:
                self._shared.drop(held)
            raise
        if held is None:
            self._refuse(refused)
        return generation, held

    def _left(self, words: layout.Words) -> int:
        """Return for how many nanoseconds it stays open; a time further away than any breaker sets counts as over."""
        left = words[layout.RETRY_AT] - self._clock()
        return left if left <= self._open_nanoseconds else 0

    def _open(self, words: layout.Words) -> None:
        layout.change(words, layout.OPEN, self._clock() + self._open_nanoseconds)

    def _refuse(self, seconds: float) -> None:
        self.count("refused")
        raise CircuitOpenError(self.service, seconds)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[layout.Words]:
        """Yield the words, to this process alone, and report the changes at the end. TimeoutError as `SharedState.editing`."""
        changes: list[tuple[str, str]] = []
        with self._shared.editing() as words:
            before = words[layout.CURRENT]
            yield words
            changes = self._publish(words, before)
        for change in changes:
            for listener in self.listeners:
                try:
                    listener(self.service, *change)
                except Exception:  # noqa: BLE001 - a listener is the application's; the call goes on
                    _log.exception("a listener of the breaker of %r failed; the call goes on", self.service)

    def _stopped(self, error: TimeoutError) -> None:
        self._problems.warn(f"the breaker of {self.service!r}: its state could not be changed. {error}")

    def _publish(self, words: layout.Words, before: int = 0) -> list[tuple[str, str]]:
        """Show the current state, and count the changes that the metric lacks; return those of this process since `before`."""
        current = words[layout.CURRENT]
        count_transitions(words, self.service)
        if current != self._seen:
            self._seen = current
            self._closed = current if layout.state_of(current) == layout.CLOSED else -1
            self._state._value.set(float(layout.state_of(current)), timestamp=time.time())
        if before in (0, current):
            return []
        return [(layout.STATES[layout.state_of(before)], layout.STATES[layout.state_of(current)])]


class Call:
    """One call through a breaker."""

    __slots__ = ("_breaker", "_generation", "_held")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> None:
        self._generation, self._held = self._breaker.admit()

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        self.end(error)

    async def __aenter__(self) -> None:
        self._generation, self._held = self._breaker.admit()

    async def __aexit__(self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """End the call with the exception that it raised, if any."""
        breaker = self._breaker
        if error is None and self._held is None:
            breaker.answered(self._generation)
            return
        failure = breaker.judge(error)
        if self._held is not None:
            breaker.probed(self._generation, self._held, failure=failure)
        elif failure:
            breaker.failed(self._generation)
        elif failure is not None:
            breaker.answered(self._generation)


def _state_now(reference: weakref.ref[Breaker]) -> float:
    breaker = reference()
    return float("nan") if breaker is None else float(breaker.state)
