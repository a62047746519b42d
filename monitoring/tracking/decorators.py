"""Decorators and helpers that count the operations of Ryot, ΣLANG and ΣVAULT.

They work with and without parentheses, on functions, generators and methods, plain and async. They keep the signature, and change
neither result nor exception.
"""

from __future__ import annotations

import inspect
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, overload

from monitoring.catalogue.ryot import ryot_batch_size, ryot_request_duration_seconds, ryot_requests, ryot_tokens_generated
from monitoring.catalogue.sigmalang import (
    sigmalang_compressed_size_bytes,
    sigmalang_compression_duration_seconds,
    sigmalang_compression_requests,
    sigmalang_decompression_duration_seconds,
    sigmalang_decompression_requests,
    sigmalang_original_size_bytes,
)
from monitoring.catalogue.sigmavault import sigmavault_operation_duration_seconds, sigmavault_operations

from .children import child, count, observe
from .compression_metrics import Compressions
from .wrapping import SUCCESS, decorated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .wrapping import Arguments, Begin, Finish, Keywords

_F = TypeVar("_F", bound="Callable[..., Any]")

_compressions = Compressions()
DEFAULT_MODEL = "default"
"""The model label of a call without a model."""


@overload
def track_ryot_request(function: _F, /) -> _F: ...
@overload
def track_ryot_request(*, model: str | None = None) -> Callable[[_F], _F]: ...
def track_ryot_request(function: _F | None = None, /, *, model: str | None = None) -> _F | Callable[[_F], _F]:
    """Count a call of a language model, under `model` or under the argument `model` of the function.

    The batch size is the length of the argument `prompts`, or 1 with an argument `prompt`. `increment_tokens_generated` counts tokens.
    """
    return decorated(function, lambda wrapped: _ryot(wrapped, model))


def increment_tokens_generated(model: str, tokens: float = 1) -> None:
    """Count tokens that a model generated. Raise ValueError for a negative number."""
    child(ryot_tokens_generated, model).inc(tokens)


@overload
def track_compression(function: _F, /) -> _F: ...
@overload
def track_compression() -> Callable[[_F], _F]: ...
def track_compression(function: _F | None = None, /) -> _F | Callable[[_F], _F]:
    """Count a compression. If the first bytes-like argument and the result are bytes, observe their sizes and ratio."""
    return decorated(function, lambda _: _begin_compression)


@overload
def track_decompression(function: _F, /) -> _F: ...
@overload
def track_decompression() -> Callable[[_F], _F]: ...
def track_decompression(function: _F | None = None, /) -> _F | Callable[[_F], _F]:
    """Count a decompression."""
    return decorated(function, lambda _: _begin_decompression)


@overload
def track_storage_operation(operation: _F, /) -> _F: ...
@overload
def track_storage_operation(operation: str | None = None, /) -> Callable[[_F], _F]: ...
def track_storage_operation(operation: _F | str | None = None, /) -> _F | Callable[[_F], _F]:
    """Count an operation on stored objects: `store`, `retrieve`, `delete`, or another name. The default is the name of the function."""
    if operation is None or isinstance(operation, str):
        return decorated(None, lambda wrapped: _storage(operation or _name(wrapped)))
    return decorated(operation, lambda wrapped: _storage(_name(wrapped)))


def _ryot(function: Callable[..., Any], fixed: str | None) -> Begin:
    find_model, find_prompt, find_prompts = (_argument(function, name) for name in ("model", "prompt", "prompts"))

    def begin(args: Arguments, kwargs: Keywords) -> Finish:
        model = fixed or find_model(args, kwargs)
        label = model if isinstance(model, str) and model else DEFAULT_MODEL
        prompts = find_prompts(args, kwargs)
        if prompts is None:
            prompts = find_prompt(args, kwargs)
        if prompts is not None:
            observe(child(ryot_batch_size, label), len(prompts) if isinstance(prompts, list | tuple) else 1)
        began = perf_counter()

        def finish(status: str, _result: object) -> None:
            observe(child(ryot_request_duration_seconds, label), perf_counter() - began)
            count(ryot_requests, label, status)

        return finish

    return begin


def _storage(operation: str) -> Begin:
    duration = sigmavault_operation_duration_seconds

    def begin(_args: Arguments, _kwargs: Keywords) -> Finish:
        began = perf_counter()

        def finish(status: str, _result: object) -> None:
            observe(child(duration, operation), perf_counter() - began)
            count(sigmavault_operations, operation, status)

        return finish

    return begin


def _begin_compression(args: Arguments, kwargs: Keywords) -> Finish:
    # Measured now: the function may consume the argument.
    if args and args[0].__class__ is bytes:
        before: int | None = len(args[0])
    else:
        before = _first_size((*args, *kwargs.values()))
    began = perf_counter()

    def finish(status: str, result: object) -> None:
        if status == SUCCESS:
            seconds = perf_counter() - began
            after = len(result) if result.__class__ is bytes else _size(result)
            if before is not None and after:
                _compressions.count(seconds, before, after)
                return
            observe(sigmalang_compression_duration_seconds, seconds)
            if before is not None and after is not None:
                observe(sigmalang_original_size_bytes, before)
                observe(sigmalang_compressed_size_bytes, after)
        count(sigmalang_compression_requests, status)

    return finish


def _begin_decompression(_args: Arguments, _kwargs: Keywords) -> Finish:
    began = perf_counter()

    def finish(status: str, _result: object) -> None:
        if status == SUCCESS:
            observe(sigmalang_decompression_duration_seconds, perf_counter() - began)
        count(sigmalang_decompression_requests, status)

    return finish


def _first_size(things: Iterable[object]) -> int | None:
    for thing in things:
        size = _size(thing)
        if size is not None:
            return size
    return None


def _size(thing: object) -> int | None:
    if thing.__class__ is bytes:
        return len(thing)
    if isinstance(thing, memoryview):
        try:
            return thing.nbytes
        except ValueError:
            return None  # released
    return len(thing) if isinstance(thing, bytes | bytearray) else None


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _argument(function: Callable[..., Any], name: str) -> Callable[[Arguments, Keywords], Any]:
    """Return a function that finds the argument of a call by its name, or None."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    if name not in parameters:
        return lambda _args, kwargs: kwargs.get(name)
    parameter = parameters[name]
    default = None if parameter.default is parameter.empty else parameter.default
    if parameter.kind in {parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
        return lambda _args, kwargs: kwargs.get(name, default)
    place = list(parameters).index(name)
    return lambda args, kwargs: args[place] if place < len(args) else kwargs.get(name, default)
