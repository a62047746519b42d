"""The exporter's environment, checked once at its start.

The service's settings check the same variables with the same functions, so that both accept the same values.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from monitoring.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")

DEFAULT_BIND = "127.0.0.1:9464"
DEFAULT_GPU_SECONDS: float = 5

BIND_FORM = "host:port, [ipv6]:port or unix:/path"
TOKEN_FORM = "visible ASCII characters without spaces"
LINGER_FORM = "seconds from 0 to 3600"
GPU_IN_FORM = "worker or exporter"
GPU_SECONDS_FORM = "seconds from 0 (GPUs are not read) to 3600"

_SECONDS_MAX = 3600.0


def bind(text: str) -> str:
    """Check METRICS_BIND. The host may be left out."""
    if Address.parse(text).descriptor is not None:
        raise ValueError
    return text


def token(text: str) -> str:
    """Check a bearer token."""
    if not all(" " < character < "\x7f" for character in text):
        raise ValueError
    return text


def seconds(value: str | float) -> float:
    """Parse METRICS_LINGER or GPU_SECONDS."""
    if 0 <= (parsed := float(value)) <= _SECONDS_MAX:
        return parsed
    raise ValueError


def gpu_in(text: str) -> str:
    """Parse GPU_IN."""
    word = text.strip().lower()
    if word not in {"worker", "exporter"}:
        raise ValueError
    return word


def not_allowed(name: str, value: object, form: str | None, *, secret: bool) -> str:
    """Return the one line that refuses a value."""
    return f"{name}={'(hidden)' if secret else repr(value)[:200]} is not allowed: it must be {form}"


class Settings(NamedTuple):
    """The variables of an exporter. `gpu_seconds` is 0 where the exporter does not read the devices."""

    bind: str
    token: str
    linger_seconds: float
    gpu_seconds: float

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment. Raise ValueError of one line for the first value that is not allowed; an empty one is the default."""
        read = partial(_read, environ)
        reader = read("GPU_IN", "worker", gpu_in, GPU_IN_FORM)
        gpu_seconds = read("GPU_SECONDS", DEFAULT_GPU_SECONDS, seconds, GPU_SECONDS_FORM)
        return cls(
            bind=read("METRICS_BIND", DEFAULT_BIND, bind, BIND_FORM),
            token=read("METRICS_TOKEN", "", token, TOKEN_FORM, secret=True),
            linger_seconds=read("METRICS_LINGER", 0.0, seconds, LINGER_FORM),
            gpu_seconds=gpu_seconds if reader == "exporter" else 0.0,
        )


def _read(environ: Mapping[str, str], name: str, default: _T, check: Callable[[str], _T], form: str, *, secret: bool = False) -> _T:
    text = environ.get(name)
    if not text:
        return default
    with suppress(ValueError):
        return check(text)
    raise ValueError(not_allowed(name, text, form, secret=secret))
