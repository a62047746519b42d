"""Forks of this process: the mutex that is held across each, and the functions that are called around it.

The order is always the same, whatever the order of imports:

1. before: pause threads, then take the mutex. A paused thread may need the mutex to finish its work.
2. in the child: release the mutex, forget the slot, then everything that stayed with the parent.
3. in the parent: release the mutex, then resume threads.
"""

from __future__ import annotations

import enum
import logging  # noqa: F401  # its own hooks come first: a fork must not hold a lock of logging while it waits for the mutex
import os
import threading
from typing import TYPE_CHECKING

from .hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable


class _Phase(enum.IntEnum):
    PAUSE = enum.auto()
    FORGET_SLOT = enum.auto()
    FORGET = enum.auto()
    RESUME = enum.auto()


#: Held while anything is half done that a forked child must not copy: a lease between lock and close, a new key in a value file.
#: Reentrant, because a signal handler may write a metric while its thread holds it.
mutex = threading.RLock()
_hooks = Hooks(_Phase)


def pause_across(pause: Callable[[], None], resume: Callable[[], None]) -> None:
    """Call `pause` before each fork, and `resume` in the parent afterwards."""
    _hooks.add(_Phase.PAUSE, pause)
    _hooks.add(_Phase.RESUME, resume)


def forget_in_child(function: Callable[[], None], *, slot: bool = False) -> None:
    """Call `function` in each forked child; the one that forgets the slot comes first. A method is called while its object lives."""
    _hooks.add(_Phase.FORGET_SLOT if slot else _Phase.FORGET, function)


def _pause() -> None:
    _hooks.call(_Phase.PAUSE)


def _forget() -> None:
    try:
        _hooks.call(_Phase.FORGET_SLOT)
    finally:
        _hooks.call(_Phase.FORGET)


def _resume() -> None:
    _hooks.call(_Phase.RESUME)


# The mutex has hooks of its own, in C: a KeyboardInterrupt that waits for the next Python function skips neither of its steps.
# Functions before a fork are called in the reverse order of registration.
os.register_at_fork(before=mutex.acquire, after_in_child=mutex.release, after_in_parent=mutex.release)
os.register_at_fork(before=_pause, after_in_child=_forget, after_in_parent=_resume)
