"""What is a key, and what it says."""

from __future__ import annotations

import json

import pytest

from monitoring.multiprocess.merge import key_table


@pytest.fixture(params=["orjson", "json"])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> key_table.Keys:
    if request.param == "json":
        monkeypatch.setattr(key_table, "_fastest_loads", lambda: json.loads)
    else:
        assert key_table._fastest_loads() is not json.loads, "the test environment has orjson"
    return key_table.Keys()


def add(table: key_table.Keys, raw: bytes) -> int:
    return table.add(len(raw).to_bytes(4, "little") + raw)


def test_what_it_says(table: key_table.Keys) -> None:
    family, name, labels, text = said = ("f", "f_total", {"b": "2", "a": '\\ " \n \u00e9'}, "help")
    raw = json.dumps(said).encode()
    number = add(table, raw)
    found = table.parsed[number]
    assert found is not None
    assert found[:4] == (family, name, tuple(sorted(labels.items())), text)
    assert found.prefix == r'f_total{a="\\ \" \n é",b="2"} '
    assert table.ids[table.heads[number]] == number
    other = table.parsed[add(table, b'["f", "f_created", {"b": "2"}, "help"]')]
    assert other is not None
    assert other.labels[0] is found.labels[1], "one object for all that say the same"
    assert other.help is found.help


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'["f", "n", {}, "h"] ',
        b' ["f", "n", {}, "h"]',
        b'["f", "n", {}]',
        b'["f", "n", {}, "h", "more"]',
        b'["", "n", {}, "h"]',
        b'["f", "", {}, "h"]',
        b'["f", 1, {}, "h"]',
        b'["f", null, {}, "h"]',
        b'["f", ["n"], {}, "h"]',
        b'["f", "n", [], "h"]',
        b'["f", "n", "l", "h"]',
        b'["f", "n", null, "h"]',
        b'["f", "n", {}, 1]',
        b'["f", "n", {}, ["h"]]',
        b'["f", "n", {"l": 1}, "h"]',
        b'["f", "n", {"l": null}, "h"]',
        b'["f", "n", {"l": true}, "h"]',
        b'["f", "n", {"l": ["v"]}, "h"]',
        b'["f", "n", {"l": {}}, "h"]',
        b'["f", "n", {"l": "v"}, "\xff"]',
        b'["f", ' + b"[" * 100_000 + b"]",
    ],
)
def test_what_is_none(raw: bytes, table: key_table.Keys) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it only says the key
        add(table, raw)
    assert len(table) == 0
    assert not table.ids


@pytest.mark.parametrize("text", [rb"\ud800", rb"a\udfffb"])
@pytest.mark.parametrize("where", [b'["X", "n", {}, "h"]', b'["f", "X", {}, "h"]', b'["f", "n", {"X": "v"}, "h"]', b'["f", "n", {}, "X"]'])
def test_half_a_character_is_a_key_that_no_exposition_can_say(text: bytes, where: bytes, table: key_table.Keys) -> None:
    number = add(table, where.replace(b"X", text))
    assert table.parsed[number] is None
