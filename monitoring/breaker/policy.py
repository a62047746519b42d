"""When a breaker opens, and for how long. Settings are checked with it before anything that measures is imported."""

from __future__ import annotations

from dataclasses import asdict, dataclass

_LONGEST_SECONDS = 946_080_000


@dataclass(frozen=True)
class Policy:
    """When a breaker opens, and for how long. ValueError for what makes no sense.

    It opens when at least `failures` of the calls of the last `window_seconds` failed, which are at least the share `rate` (0 to 1)
    of at least `minimum_calls` calls, over all workers.
    """

    failures: int = 5
    rate: float = 0.0
    minimum_calls: int = 1
    window_seconds: float = 60.0
    open_seconds: float = 30.0

    def __post_init__(self) -> None:
        least = {"failures": 1, "minimum_calls": 1, "rate": 0, "window_seconds": 0.01, "open_seconds": 0.001}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"a breaker's {name} must be at least {bound}; it is {getattr(self, name)}")
        for name in ("window_seconds", "open_seconds"):
            if getattr(self, name) > _LONGEST_SECONDS:
                raise ValueError(f"a breaker's {name} must be at most {_LONGEST_SECONDS} (30 years); it is {getattr(self, name)}")
        if self.rate > 1:
            raise ValueError(f"a breaker's rate is a share of the calls, at most 1; it is {self.rate}")

    def __str__(self) -> str:
        return " ".join(f"{name}={value:g}" for name, value in asdict(self).items())
