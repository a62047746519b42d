"""Stop sequences are found in a stream, in whatever pieces it comes."""

from __future__ import annotations

import pytest

from app.integrations.ryot.stop_sequences import StopText


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("text", "stops", "said"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "o t"], "one two three"[: "one two three".index("o t")]),
        ("aaab", ["aab"], "a"),
        ("one two", ["twofold"], "one two"),
        ("one two", [], "one two"),
    ],
)
def test_stop_words_are_found_however_they_come(text: str, stops: list[str], said: str, size: int) -> None:
    heard = StopText(stops)
    released = "".join(heard.add(text[start : start + size]) for start in range(0, len(text), size)) + heard.rest()
    assert released == said
    assert heard.stopped == (said != text)
