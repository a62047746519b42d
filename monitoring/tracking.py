"""Decorators that count an operation: its outcome, its duration and its sizes.

They work bare and with parentheses, on plain and on async functions, keep the signature, and change neither result nor exception.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Counter

    Succeeded = Callable[[float, int | None, Any], None]

_F = TypeVar("_F", bound=Callable[..., Any])


@overload
def track_compression(function: _F, /) -> _F: ...
@overload
def track_compression() -> Callable[[_F], _F]: ...
def track_compression(function: _F | None = None, /) -> _F | Callable[[_F], _F]:
    """Count a compression; sizes and ratio where the first bytes argument and the result are bytes."""
    return _decorated(function, lambda: metrics.sigmalang_compression_requests, _compressed)


@overload
def track_decompression(function: _F, /) -> _F: ...
@overload
def track_decompression() -> Callable[[_F], _F]: ...
def track_decompression(function: _F | None = None, /) -> _F | Callable[[_F], _F]:
    """Count a decompression."""
    return _decorated(function, lambda: metrics.sigmalang_decompression_requests, _decompressed)


def _compressed(seconds: float, before: int | None, result: object) -> None:
    metrics.sigmalang_compression_duration_seconds.observe(seconds)
    after = _size(result)
    if before is None or after is None:
        return
    metrics.sigmalang_original_size_bytes.observe(before)
    metrics.sigmalang_compressed_size_bytes.observe(after)
    if after:
        metrics.sigmalang_compression_ratio.observe(before / after)


def _decompressed(seconds: float, _before: int | None, _result: object) -> None:
    metrics.sigmalang_decompression_duration_seconds.observe(seconds)


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Give the size of the first bytes argument, before the function may use it up."""
    return next((size for size in map(_size, (*args, *kwargs.values())) if size is not None), None)


def _size(thing: object) -> int | None:
    if isinstance(thing, memoryview):
        try:
            return thing.nbytes
        except ValueError:
            return None  # released
    return len(thing) if isinstance(thing, bytes | bytearray) else None


def _decorated(function: _F | None, requests: Callable[[], Counter], succeeded: Succeeded) -> _F | Callable[[_F], _F]:
    def decorate(wrapped: _F) -> _F:
        tracked: _F = _wrap(wrapped, requests, succeeded)
        return tracked

    return decorate if function is None else decorate(function)


def _wrap(function: Any, requests: Callable[[], Counter], succeeded: Succeeded) -> Any:  # noqa: ANN401 - the same kind of function
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        @functools.wraps(function)
        async def tracked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
            with _outcome(requests()):
                before = _given(args, kwargs)
                began = time.perf_counter()
                result = await function(*args, **kwargs)
                succeeded(time.perf_counter() - began, before, result)
                return result

    else:

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
            with _outcome(requests()):
                before = _given(args, kwargs)
                began = time.perf_counter()
                result = function(*args, **kwargs)
                succeeded(time.perf_counter() - began, before, result)
                return result

    return tracked


@contextmanager
def _outcome(requests: Counter) -> Iterator[None]:
    """Count what is done inside, once, by how it ends."""
    status = "error"
    try:
        yield
        status = "success"
    except TimeoutError:
        status = "timeout"
        raise
    except (asyncio.CancelledError, GeneratorExit):
        status = "cancelled"
        raise
    finally:
        requests.labels(status).inc()
