"""Functions to call at the named moments of something's life."""

from __future__ import annotations

import inspect
import weakref
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable
    from types import MethodType

_Phase = TypeVar("_Phase", bound="enum.Enum")


class Hooks(Generic[_Phase]):
    """The functions of each phase, called in the order of registration. A bound method does not keep its object alive."""

    def __init__(self, phases: type[_Phase]) -> None:
        self._hooks: dict[_Phase, list[Callable[[], Callable[[], None] | None]]] = {phase: [] for phase in phases}

    def add(self, phase: _Phase, function: Callable[[], None]) -> None:
        """Call `function` in this phase from now on."""
        hooks = self._hooks[phase]
        for hook in [hook for hook in hooks if hook() is None]:
            with suppress(ValueError):
                hooks.remove(hook)
        hooks.append(_weak(function) if inspect.ismethod(function) else lambda: function)

    def call(self, phase: _Phase) -> None:
        """Call all functions of a phase, also after one that raises; its exception is raised at the end."""
        with ExitStack() as stack:
            for hook in self._hooks[phase][::-1]:
                if (function := hook()) is not None:
                    stack.callback(function)


def _weak(method: MethodType) -> Callable[[], Callable[[], None] | None]:
    """Like weakref.WeakMethod, whose callbacks fail at the end of the interpreter."""
    owner, function = weakref.ref(method.__self__), method.__func__

    def living() -> Callable[[], None] | None:
        found = owner()
        return None if found is None else partial(function, found)

    return living
