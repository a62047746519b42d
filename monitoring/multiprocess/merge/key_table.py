"""The keys of value files. Each is parsed once, however many files have it, and has a number from then on."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from monitoring.multiprocess import text_format


class Key(NamedTuple):
    """A parsed key: family, sample name, labels as sorted pairs, help; and its line up to the value (`text_format.line`, `identity`)."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str
    prefix: str
    identity: str


class Keys:
    """Numbers for the keys of records, by their head: the key's length in four bytes, and the key.

    The number is `ids[head]` for a known key, otherwise `add(head)`. Keys are numbered in the order of their records: the key after
    another one in a file is likely to have the next number, as the samples of one histogram have in all files.
    """

    def __init__(self) -> None:
        self.ids: dict[bytes, int] = {}
        #: By number.
        self.heads: list[bytes] = []
        #: By number; None for a key that is whole but cannot be exposed.
        self.parsed: list[Key | None] = []
        #: One object for equal names and helps, and for equal labels with their texts.
        self._texts: dict[str, str] = {}
        self._pairs = _Pairs()
        self._loads = _fastest_loads()

    def __len__(self) -> int:
        return len(self.parsed)

    def add(self, head: bytes) -> int:
        """Return the number of a new key. ValueError where its bytes are not a key."""
        raw = head[4:]
        if raw[:2] != b'["' or raw[-1:] != b"]":
            raise ValueError(raw[:100])
        try:
            family, name, labels, text = self._loads(raw)
        except (ValueError, RecursionError):
            family, name, labels, text = _by_python(raw)
        shared, known = self._texts.setdefault, self._pairs
        try:
            pairs = [known[pair] for pair in sorted(labels.items())]
            prefix = text_format.line(name, ",".join([pair_text for _, pair_text in pairs]))
            # Anything but text fails here at the latest, and so does a lone surrogate.
            "".join((family, name, text, prefix, *labels)).encode()
            own = tuple([pair for pair, _ in pairs])
            exact = prefix.startswith(name) and known.escaped.isdisjoint(labels)
            identity = prefix if exact else text_format.identity(name, own, prefix, exact=False)
            key = Key(shared(family, family), shared(name, name), own, shared(text, text), prefix, identity)
        except (TypeError, AttributeError):
            raise ValueError(raw[:100]) from None
        except UnicodeEncodeError:
            key = None
        if not (family and name):
            raise ValueError(raw[:100])
        number = self.ids[head] = len(self.parsed)
        self.heads.append(head)
        self.parsed.append(key)
        return number

    def kept(self, numbers: set[int]) -> tuple[Keys, dict[int, int]]:
        """Return a table of these keys only, and the new number of each."""
        table = Keys()
        renumbered: dict[int, int] = {}
        for number, head in enumerate(self.heads):
            if number in numbers:
                renumbered[number] = table.ids[head] = len(table.parsed)
                table.heads.append(head)
                table.parsed.append(self.parsed[number])
        return table, renumbered


class _Pairs(dict[tuple[str, str], tuple[tuple[str, str], str]]):
    """Each label with its value, and the text of both in a line."""

    def __init__(self) -> None:
        #: The labels that are escaped in a line.
        self.escaped: set[str] = set()

    def __missing__(self, pair: tuple[str, str]) -> tuple[tuple[str, str], str]:
        if not text_format.exact("", pair[:1]):
            self.escaped.add(pair[0])
        found = self[pair] = pair, text_format.pair(pair)
        return found


def _by_python(raw: bytes) -> Any:
    """Parse the key with Python's own parser, which takes lone surrogates: they cannot be exposed, but the file is whole."""
    try:
        family, name, labels, text = json.loads(raw)
    except RecursionError:
        raise ValueError(raw[:100]) from None
    return family, name, labels, text


def _fastest_loads() -> Any:
    try:
        import orjson
    except ImportError:
        return json.loads
    return orjson.loads
