"""Decorators that observe the start and the end of an operation, for each kind of function.

A generator is one operation from its first step to its end. If its consumer leaves early, it is cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    Arguments = tuple[Any, ...]
    Keywords = dict[str, Any]
    #: Called with the outcome and the result (None unless the outcome is a success) when the operation ends.
    Finish = Callable[[str, Any], None]
    #: Called with the arguments when the operation starts.
    Begin = Callable[[Arguments, Keywords], Finish]
    #: Called with a function when it is decorated.
    Track = Callable[[Callable[..., Any]], Begin]

_F = TypeVar("_F", bound="Callable[..., Any]")

SUCCESS = "success"


def outcome(error: BaseException) -> str:
    """Return the outcome of an operation that raised: timeout, cancelled or error.

    The timeouts of some libraries (httpx, openai, requests) do not derive from TimeoutError; they are recognised by name.
    """
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    if isinstance(error, TimeoutError) or any("Timeout" in kind.__name__ for kind in type(error).__mro__):
        return "timeout"
    return "error"


def decorated(function: _F | None, track: Track) -> _F | Callable[[_F], _F]:
    """Decorate a function, or return the decorator if `function` is None. Raise TypeError for an object that is not callable."""

    def decorate(wrapped: _F) -> _F:
        tracked: _F = _wrap(wrapped, track)
        return tracked

    return decorate if function is None else decorate(function)


def _wrap(function: Any, track: Track) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_wrap(function.__func__, track))
    if not callable(function):
        raise TypeError(f"{function!r} cannot be tracked: it is not callable")
    called = function if inspect.isroutine(function) or isinstance(function, functools.partial) else getattr(function, "__call__", function)  # noqa: B004
    for is_kind, wrap in _KINDS:
        if is_kind(function) or is_kind(called):
            return functools.wraps(function)(wrap(function, track(function)))
    return functools.wraps(function)(_plain(function, track(function)))


def _plain(function: Any, begin: Begin) -> Any:
    def tracked(*args: Any, **kwargs: Any) -> Any:
        finish = begin(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            finish(outcome(error), None)
            raise
        finish(SUCCESS, result)
        return result

    return tracked


def _coroutine(function: Any, begin: Begin) -> Any:
    async def tracked(*args: Any, **kwargs: Any) -> Any:
        finish = begin(args, kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            finish(outcome(error), None)
            raise
        finish(SUCCESS, result)
        return result

    return tracked


def _generator(function: Any, begin: Begin) -> Any:
    def tracked(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        finish = begin(args, kwargs)
        try:
            result = yield from function(*args, **kwargs)
        except BaseException as error:
            finish(outcome(error), None)
            raise
        finish(SUCCESS, result)
        return result

    return tracked


def _async_generator(function: Any, begin: Begin) -> Any:
    async def tracked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        finish = begin(args, kwargs)
        inner = function(*args, **kwargs)
        try:
            step = inner.asend(None)
            while True:
                try:
                    item = await step
                except StopAsyncIteration:
                    break
                try:
                    step = inner.asend((yield item))
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - the inner generator handles it
                    step = inner.athrow(error)
        except BaseException as error:
            finish(outcome(error), None)
            raise
        finish(SUCCESS, None)

    return tracked


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Begin], Any]], ...] = (
    (inspect.iscoroutinefunction, _coroutine),
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
)
