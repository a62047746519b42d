"""A small language model: interpolated n-grams over words and characters, in plain Python.

It is a real model (it learns from a text and samples token by token) and a stand-in: nobody should expect sense from it.
"""

from __future__ import annotations

import random
import re
from bisect import bisect, bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

END = 0
"""The token that ends a text."""

_PIECES = re.compile(r" ?[A-Za-z_]+| ?\d| ?[^\sA-Za-z_\d]|\s")
_LONGEST_CONTEXT = 3
_WEIGHT = 0.85
"""The share of a longer context against all shorter ones."""


class Followers:
    """What came after one context, the most frequent first."""

    __slots__ = ("counts", "tokens")

    def __init__(self, seen: Counter[int]) -> None:
        ordered = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
        self.tokens = [token for token, _ in ordered]
        self.counts = [count for _, count in ordered]


class Model:
    """Learns from texts; promises the same tokens for the same seed and prompt."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Learn from texts, each of which ends with END."""
        words = Counter(piece for text in texts for piece in _PIECES.findall(text))
        singles = {character for piece in words for character in piece} | {chr(code) for code in range(32, 127)} | {"\n"}
        self.words = ["", *sorted(words.keys() | singles)]
        self._numbers = {word: number for number, word in enumerate(self.words) if number}
        seen: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            tokens = [END, *self.encode(text), END]
            for place in range(1, len(tokens)):
                for length in range(min(place, _LONGEST_CONTEXT) + 1):
                    seen[tuple(tokens[place - length : place])][tokens[place]] += 1
        self._followers = {context: Followers(counts) for context, counts in seen.items()}

    def encode(self, text: str) -> list[int]:
        """Give the tokens of a text: known words whole, others by character, strange characters as one space each."""
        numbers = self._numbers
        tokens: list[int] = []
        for match in _PIECES.finditer(text):
            piece = match[0]
            number = numbers.get(piece)
            if number is None:
                tokens += [numbers.get(character, numbers[" "]) for character in piece]
            else:
                tokens.append(number)
        return tokens

    def generate(self, prompt: Sequence[int], *, seed: int | None = None, temperature: float = 1.0, top_p: float = 1.0) -> Iterator[int]:
        """Give token after token until END, which is not given; the most frequent follower each time at temperature 0."""
        chance = random.Random(seed)
        dice = _Dice(temperature, top_p, chance)
        context = [END, *prompt][-_LONGEST_CONTEXT:]
        begun = False
        while True:
            token = self._next(context, dice)
            if token != END:
                yield token
                begun = True
            elif begun:
                return
            else:
                # The prompt reads like an end: begin a new text rather than say nothing.
                context = []
            context = [*context, token][-_LONGEST_CONTEXT:]

    def _next(self, context: list[int], dice: _Dice) -> int:
        """Draw from the mixture: first how much of the context to believe, then a follower of that much."""
        for start in range(len(context)):
            found = self._followers.get(tuple(context[start:]))
            if found is not None and dice.believe():
                return dice.draw(found)
        return dice.draw(self._followers[()])


class _Dice:
    """Draws by temperature and top_p; remembers the weights of contexts that it saw."""

    def __init__(self, temperature: float, top_p: float, chance: random.Random) -> None:
        self._temperature = temperature
        self._top_p = top_p
        self._chance = chance
        self._weights: dict[int, list[float]] = {}

    def believe(self) -> bool:
        return self._temperature == 0 or self._chance.random() < _WEIGHT

    def draw(self, found: Followers) -> int:
        if self._temperature == 0:
            return found.tokens[0]
        weights = self._weights.get(id(found))
        if weights is None:
            weights = self._weights[id(found)] = self._weigh(found.counts)
        return found.tokens[bisect(weights, self._chance.random() * weights[-1], hi=len(weights) - 1)]

    def _weigh(self, counts: list[int]) -> list[float]:
        """Give running totals of the weights, as many of the greatest as make up top_p."""
        # Relative to the greatest: a low temperature makes the others vanish, and nothing overflow.
        totals = list(accumulate((count / counts[0]) ** (1 / self._temperature) for count in counts))
        if self._top_p < 1:
            del totals[bisect_left(totals, totals[-1] * self._top_p) + 1 :]
        return totals
