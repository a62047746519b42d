"""Functions that are called at named moments: their order, errors, and the end of their objects."""

from __future__ import annotations

import enum
import gc

import pytest

from monitoring.multiprocess.linux.hooks import Hooks


class Phase(enum.Enum):
    FIRST = enum.auto()
    SECOND = enum.auto()


class Log:
    def __init__(self, called: list[str], name: str) -> None:
        self.called, self.name = called, name

    def note(self) -> None:
        self.called.append(self.name)


def test_a_phase_calls_its_functions_in_order() -> None:
    hooks, called = Hooks(Phase), []
    for number in range(3):
        hooks.add(Phase.FIRST, lambda number=number: called.append(number))
    hooks.add(Phase.SECOND, lambda: called.append("second"))
    hooks.call(Phase.FIRST)
    assert called == [0, 1, 2]
    hooks.call(Phase.SECOND)
    assert called == [0, 1, 2, "second"]


def test_a_method_is_called_while_its_object_lives() -> None:
    hooks, called = Hooks(Phase), []
    kept, dropped = Log(called, "kept"), Log(called, "dropped")
    hooks.add(Phase.FIRST, dropped.note)
    hooks.add(Phase.FIRST, kept.note)
    del dropped
    gc.collect()
    hooks.call(Phase.FIRST)
    assert called == ["kept"]
    hooks.add(Phase.FIRST, kept.note)
    assert len(hooks._hooks[Phase.FIRST]) == 2


def test_an_error_stops_no_other_function() -> None:
    hooks, called = Hooks(Phase), []
    hooks.add(Phase.FIRST, lambda: 1 / 0)
    hooks.add(Phase.FIRST, lambda: called.append("next"))
    with pytest.raises(ZeroDivisionError):
        hooks.call(Phase.FIRST)
    assert called == ["next"]
