"""Content of requests: documents that compress like real ones, prompts, and incompressible bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_TEXT = (
    "the a of to and in is was that for it with as on be at by from request worker answer token model agent key store object "
    "snapshot bytes series sample scrape counter latency breaker queue morning window letter river paper stone garden"
)
_WORDS = _TEXT.split()


def text(choice: random.Random, size: int) -> str:
    """Return words with a total length of `size` characters."""
    words: list[str] = []
    length = 0
    while length < size:
        words.append(choice.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:size]


def record(choice: random.Random) -> bytes:
    """Return a small document that resembles the others, the use of dictionaries."""
    return json.dumps(
        {
            "id": choice.randrange(10**9),
            "service": choice.choice(("ryot", "sigmalang", "sigmavault")),
            "level": choice.choice(("info", "warning", "error")),
            "message": text(choice, choice.randrange(20, 200)),
        }
    ).encode()


def document(choice: random.Random, size: int) -> bytes:
    """Return a document of `size` bytes: usually text, sometimes incompressible."""
    if choice.random() < 0.1:
        return choice.randbytes(size)
    some = text(choice, min(size, 16 * 1024)).encode()
    return (some * (size // max(1, len(some)) + 1))[:size]
