"""When a breaker opens, and for how long: which values make sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from monitoring.breaker import CLOSED, Policy

from .conftest import SECOND, fail, refused, succeed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Service

    Make = Callable[..., Service]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"failures": 0},
        {"rate": 1.5},
        {"rate": float("nan")},
        {"minimum_calls": 0},
        {"window_seconds": 0},
        {"open_seconds": 0},
        {"open_seconds": float("inf")},
        {"open_seconds": 1e10},
        {"window_seconds": float("inf")},
        {"rate": -1},
    ],
)
def test_nonsense_is_refused(nonsense: dict[str, Any]) -> None:
    (name,) = nonsense
    with pytest.raises(ValueError, match=name):
        Policy(**nonsense)


def test_the_longest_times_are_kept(make: Make) -> None:
    service = make(failures=1, window_seconds=946_080_000, open_seconds=946_080_000)
    one, other = service.worker(), service.worker()
    fail(one)
    assert refused(other) == 946_080_000.0
    service.now += 946_080_000 * SECOND
    succeed(other)
    assert one.state == CLOSED
