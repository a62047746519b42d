"""The metrics of one request to ΣLANG, its outcome and its time, and the answers to its errors."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from prometheus_client import Counter
from starlette.requests import ClientDisconnect

from app.api.problems import ProblemError
from app.integrations import sigmalang
from app.integrations.dictionaries import UnknownDictionaryError

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass
class Operation:
    """One request: the time of its work, and its outcome, which is counted once."""

    requests: Counter
    seconds: float = 0.0
    counted: bool = field(default=False)

    def timed(self, work: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return a function that runs `work` and adds its time to this operation's."""

        def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            started = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return run

    def finish(self, status: str) -> None:
        """Count the outcome."""
        if not self.counted:
            self.counted = True
            self.requests.labels(status).inc()

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count an exception and turn it into an answer. Without one, the response counts itself."""
        try:
            yield
        except (asyncio.CancelledError, ClientDisconnect):
            self.finish("cancelled")
            raise
        except BaseException as error:
            self.finish("error")
            refusal = _refusal(error)
            if refusal is None:
                raise
            raise refusal from error


def _refusal(error: BaseException) -> ProblemError | None:
    if isinstance(error, sigmalang.CodecError):
        return ProblemError(413 if isinstance(error, sigmalang.TooLargeError) else 422, error.reason, str(error))
    if isinstance(error, UnknownDictionaryError):
        return ProblemError(404, error.reason, str(error))
    if isinstance(error, OSError):
        return ProblemError(507, "storage_failed", f"the temporary file of a long body cannot be written or read: {error.strerror}")
    return None
