"""The keys of value files, each parsed once however many files hold it, and known by a number from then on."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Key(NamedTuple):
    """What a key says: family, sample name, labels as sorted pairs, help."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str


class Keys:
    """Numbers for the keys of records, by their head: the key's length in four bytes, and the key.

    That is `ids[head]` where it is known, else `add(head)`. Keys are numbered as they come: what stands behind a key in one file is
    likely to have the next number, as the samples of one histogram have in all of them.
    """

    def __init__(self) -> None:
        self.ids: dict[bytes, int] = {}
        #: By number.
        self.heads: list[bytes] = []
        #: By number; None for a key that is whole, and cannot be exposed.
        self.parsed: list[Key | None] = []
        #: Names and helps: one object for all keys that say the same.
        self._texts: dict[str, str] = {}
        self._loads = _fastest_loads()

    def __len__(self) -> int:
        return len(self.parsed)

    def add(self, head: bytes) -> int:
        """The number of a new key; ValueError where its bytes are no key at all."""
        raw = head[4:]
        if raw[:2] != b'["' or raw[-1:] != b"]":
            raise ValueError(raw[:100])
        try:
            family, name, labels, text = content = self._loads(raw)
            pairs = tuple(sorted(labels.items()))
        except (ValueError, TypeError, AttributeError, RecursionError):
            content = _lone_surrogates(raw)
            if content is None:
                raise ValueError(raw[:100]) from None
            family, name, labels, text = content
            pairs = tuple(sorted(labels.items()))
        if not (family and name and family.__class__ is name.__class__ is text.__class__ is str):
            raise ValueError(raw[:100])
        try:
            "".join((family, name, text, *labels, *labels.values())).encode()
            shared = self._texts.setdefault
            key = Key(shared(family, family), shared(name, name), pairs, shared(text, text))
        except TypeError:
            raise ValueError(raw[:100]) from None
        except UnicodeEncodeError:
            key = None
        number = self.ids[head] = len(self.parsed)
        self.heads.append(head)
        self.parsed.append(key)
        return number

    def kept(self, numbers: set[int]) -> tuple[Keys, dict[int, int]]:
        """A table of these keys only, and the new number of each."""
        table = Keys()
        renumbered: dict[int, int] = {}
        for number, head in enumerate(self.heads):
            if number in numbers:
                renumbered[number] = table.ids[head] = len(table.parsed)
                table.heads.append(head)
                table.parsed.append(self.parsed[number])
        return table, renumbered


def _lone_surrogates(raw: bytes) -> Any:
    """The key once more by Python's own parser, which takes half characters: no exposition can say them, but the file is whole."""
    try:
        family, name, labels, text = content = json.loads(raw)
        labels.items()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    del family, name, text
    return content


def _fastest_loads() -> Any:
    try:
        import orjson
    except ImportError:
        return json.loads
    return orjson.loads
