"""Counts odd turns of phrase, and compares the figures with ceilings.

`python -m tools.prose` checks the groups of files that `[tool.prose]` in pyproject.toml lists.
`python -m tools.prose FILE...` shows the turns of these files.
"""

from __future__ import annotations

import ast
import math
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A plain sentence can contain one of these, so the figure of one file proves little. The figure of all files shows a habit.
TURN = re.compile(
    r"""\b(?:
        (?:who|whom)ever | nobody | somebody
      | tells? | told | says? | said | begins? | gives?[ ](?:the|an?|back)
      | (?:is|are|was)[ ]no[ ][a-z]\w* | what[ ](?:is|was|it|the) | else(?![ ]if)
      | ha(?:s|ve)[ ]to[ ]be | to[ ]be[ ]had
      | anew | meanwhile | as[ ]ever | by[ ]itself | of[ ]ours | so[ ]many
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_WORD = re.compile(r"[a-z']+", re.IGNORECASE)
_BLOCK = re.compile(r"```.*?```", re.DOTALL)
_SPAN = re.compile(r"`[^`]*`")
_WORST = 5


@dataclass(frozen=True)
class Figure:
    """The odd turns of one file or of several."""

    name: str
    turns: int
    words: int

    def __str__(self) -> str:
        return f"{self.name}: {self.per_10_000:.0f} odd turns in 10,000 words ({self.turns} in {self.words})"

    @property
    def per_10_000(self) -> float:
        """The figure that a ceiling limits."""
        return self.turns * 10_000 / max(self.words, 1)


def markdown_prose(text: str) -> str:
    """Return Markdown without its code."""
    return _SPAN.sub("", _BLOCK.sub("", text))


def python_prose(source: str) -> str:
    """Return the docstrings of a module, then its comments that fill a line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    comments = [line.strip()[1:].removeprefix(":") for line in source.splitlines() if line.lstrip().startswith("#")]
    return markdown_prose("\n".join(docstrings + comments))


def read_prose(file: Path) -> str:
    """Return the prose of a Markdown or Python file."""
    text = file.read_text(encoding="utf-8")
    return python_prose(text) if file.suffix == ".py" else markdown_prose(text)


def count(name: str, prose: str) -> Figure:
    """Count turns and words."""
    return Figure(name, len(TURN.findall(prose)), len(_WORD.findall(prose)))


def check(root: Path) -> bool:
    """Print the figure and the worst files of each group, and return whether no figure is above its ceiling."""
    groups = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["prose"]
    below = [_check_group(root, name, group["files"], group["ceiling"]) for name, group in groups.items()]
    return all(below)


def _check_group(root: Path, name: str, patterns: Sequence[str], ceiling: int) -> bool:
    files = sorted({file for pattern in patterns for file in root.glob(pattern)})
    if not files:
        raise SystemExit(f"tool.prose.{name}.files: these patterns match nothing. Correct them in pyproject.toml.")
    figures = [count(str(file.relative_to(root)), read_prose(file)) for file in files]
    total = Figure(name, sum(figure.turns for figure in figures), sum(figure.words for figure in figures))
    below = total.per_10_000 <= ceiling
    print(f"{total}; the ceiling is {ceiling}.")
    for figure in sorted(figures, key=lambda figure: figure.turns, reverse=True)[:_WORST]:
        if figure.turns:
            print(f"  {figure}")
    if not below:
        print(f"  Rewrite sentences until {name} is at its ceiling. `python -m tools.prose FILE` shows the turns of a file.")
    elif total.per_10_000 < 0.9 * ceiling:
        print(f"  Lower tool.prose.{name}.ceiling in pyproject.toml to {math.ceil(total.per_10_000)}.")
    return below


def show(file: Path) -> None:
    """Print each turn of a file with the text around it."""
    prose = " ".join(read_prose(file).split())
    print(count(str(file), prose))
    for match in TURN.finditer(prose):
        print(f"  ...{prose[max(match.start() - 40, 0) : match.end() + 40]}...")


def main(arguments: Sequence[str]) -> int:
    """Show the files that the arguments name, or check all groups."""
    if arguments:
        for name in arguments:
            show(Path(name))
        return 0
    return 0 if check(Path(__file__).parent.parent) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
