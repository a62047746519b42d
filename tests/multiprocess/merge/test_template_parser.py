"""Files that are compared with another one say just what they say when they are parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import mmap_key

from monitoring.multiprocess.merge import record_parser, template_parser
from monitoring.multiprocess.merge.key_table import Keys
from monitoring.multiprocess.merge.vectors import NumpyVectors, PlainVectors
from monitoring.multiprocess.storage.record_format import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = ("counter", "")
VECTORS = NumpyVectors(np)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches and windows of a few records, so that small files have many of them."""
    for name, value in {"_SMALL": 0, "_STRETCH": 100, "_WINDOW": 16, "_WIDEST": 64, "_RUN": 3}.items():
        monkeypatch.setattr(template_parser, name, value)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each parse has found."""
    found: list[int] = []

    def parse(*arguments: object) -> record_parser.Parsed:
        records = record_parser.parse(*arguments)  # type: ignore[arg-type]
        found.append(len(records.keys))
        return records

    monkeypatch.setattr(template_parser, "parse", parse)
    monkeypatch.setattr(template_parser, "_SMALL", 0)
    return found


def file(numbers: Sequence[int], value: float = 0.0) -> bytes:
    """A value file with one record for each number, of keys of different lengths."""
    body = b"".join(
        encode(mmap_key("c", "c_total", ["label"], [f"{number} {'x' * (number % 23)}"], "help"), value + place, value)  # type: ignore[no-untyped-call]
        for place, number in enumerate(numbers)
    )
    return (8 + len(body)).to_bytes(4, "little") + b"\0\0\0\0" + body


def by_itself(content: bytes, used: int, keys: Keys) -> tuple[list[int], list[list[int]], str]:
    records = record_parser.parse(content, 0, used, keys)
    return records.keys, VECTORS.places(records.ends).tolist(), records.damage


def compared(templates: template_parser.Templates, content: bytes, used: int, keys: Keys) -> tuple[list[int], list[list[int]], str]:
    found = templates.parse(KIND, content, used, keys)
    return found.keys, found.places.tolist(), found.damage


NUMBERS = st.lists(st.integers(0, 200), unique=True, max_size=60)
#: What becomes of a file: from where to where something else stands, which may be nothing.
EDIT = st.tuples(st.integers(0, 60), st.integers(0, 8), st.lists(st.integers(0, 400), max_size=6))


@pytest.mark.usefixtures("narrow")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), first=NUMBERS, edits=st.lists(EDIT, max_size=4), value=st.floats(allow_nan=False))
def test_a_file_like_another(data: st.DataObject, first: list[int], edits: list[tuple[int, int, list[int]]], value: float) -> None:
    """Records put in, taken out, moved, repeated; then bytes overwritten, cut off, or more in use than there are."""
    second = list(first)
    for start, count, others in edits:
        second[start : start + count] = others
    keys, templates = Keys(), template_parser.Templates(VECTORS)
    one, other = file(first), file(second, value)
    assert compared(templates, one, len(one), keys) == by_itself(one, len(one), keys)
    assert compared(templates, other, len(other), keys) == by_itself(other, len(other), keys)
    at = data.draw(st.integers(8, max(8, len(other) - 1)))
    cut, broken = other[:at], other[:at] + data.draw(st.binary(max_size=12)) + other[at + 12 :]
    bad = [(cut, len(other)), (cut, at), (broken, len(other)), (broken, len(broken)), (other, len(other) + 64), (b"\0" * 8, 8)]
    for content, used in bad:
        assert compared(templates, content[:used], used, keys) == by_itself(content[:used], used, keys)


def test_what_is_alike_is_not_parsed(parsed: list[int]) -> None:
    """Some records more or less at the beginning, the middle or the end do not matter."""
    keys, templates, numbers = Keys(), template_parser.Templates(VECTORS), list(range(3000))
    first = templates.parse(KIND, file(numbers), len(file(numbers)), keys)
    assert parsed == [3000]
    for more, less in (([], 0), ([5001], 0), ([], 3), ([5002, 5003], 2)):
        for at in (0, 1500, 3000):
            parsed.clear()
            content = file([*numbers[:at], *more, *numbers[at + less :]], 7.0)
            assert compared(templates, content, len(content), keys) == by_itself(content, len(content), keys)
            assert sum(parsed) < 100
    content = file(numbers, 9.0)
    same = template_parser.Templates(VECTORS)
    same.parse(KIND, file(numbers), len(content), keys)
    one, other = (same.parse(KIND, content, len(content), keys) for _ in range(2))
    assert one.keys is other.keys, "files of the same keys share the list"
    assert first.keys == one.keys


def test_the_longest_file_is_the_template_until_they_are_forgotten(parsed: list[int]) -> None:
    keys, templates = Keys(), template_parser.Templates(VECTORS)
    for length, fewest in ((10, 10), (500, 490), (500, 0), (20, 0), (500, 0)):
        parsed.clear()
        content = file(range(length))
        templates.parse(KIND, content, len(content), keys)
        assert fewest <= sum(parsed) <= fewest + 10
        assert templates.parse(("summary", ""), file([]), 8, keys).keys == []
    templates.clear()
    parsed.clear()
    templates.parse(KIND, file(range(500)), len(file(range(500))), keys)
    assert parsed == [500]


def test_without_numpy_every_file_is_parsed(parsed: list[int]) -> None:
    keys, templates = Keys(), template_parser.Templates(PlainVectors())
    for _ in range(2):
        content = file(range(100))
        found = templates.parse(KIND, content, len(content), keys)
        assert [found.keys, [[place - 1, place] for place in found.places], found.damage] == [*by_itself(content, len(content), keys)]
    assert parsed == [100, 100]
