from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "docs/decisions"
HEAD = re.compile(
    r"# (?P<number>\d{4}): (?P<title>\S.*)\n\n"
    r"- Date: (?P<date>20\d\d-[01]\d-[0-3]\d)\n"
    r"- Status: (?P<status>proposed|accepted|superseded by (?P<newer>\d{4}))\n\n"
    r"## Decision\n\n\S"
)
RULE = "|---|---|---|---|\n"


def problems(folder: Path) -> set[str]:
    """Return each way in which the decisions of a folder break the form."""
    files = sorted(folder.glob("[0-9]*.md"))
    numbers = [file.name[:4] for file in files]
    found = set()
    if numbers != [f"{number:04}" for number in range(1, len(files) + 1)]:
        found.add("numbers")
    rows = ""
    for file in files:
        text = file.read_text(encoding="utf-8")
        head = HEAD.match(text)
        if head is None or head["number"] != file.name[:4] or (head["newer"] or head["number"]) not in numbers:
            found.add(f"{file.name}: head")
            continue
        sections = re.findall(r"(?m)^## (.+)$", text)
        if "Reasons" not in sections or len(sections) != len(set(sections)):
            found.add(f"{file.name}: sections")
        rows += f"| [{head['number']}]({file.name}) | {head['title']} | {head['date']} | {head['status']} |\n"
    if (folder / "README.md").read_text(encoding="utf-8").partition(RULE)[2] != rows:
        found.add("README.md: table")
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER, tmp_path / "decisions")


def test_decisions_have_the_form_and_are_in_the_table() -> None:
    assert len(list(FOLDER.glob("[0-9]*.md"))) >= 19
    assert problems(FOLDER) == set()


def test_the_template_has_the_form(copy: Path) -> None:
    number = f"{len(list(copy.glob('[0-9]*.md'))) + 1:04}"
    text = (copy / "template.md").read_text().replace("NNNN", number).replace("YYYY-MM-DD", "2026-12-01")
    (copy / f"{number}-new.md").write_text(text)
    with (copy / "README.md").open("a") as table:
        table.write(f"| [{number}]({number}-new.md) | The choice in one short sentence | 2026-12-01 | proposed |\n")
    assert problems(copy) == set()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# 0001: ", "# ", "head"),
        ("# 0001: ", "# 0002: ", "head"),
        ("- Date: 2026-11-24", "- Date: yesterday", "head"),
        ("- Status: accepted\n", "", "head"),
        ("- Status: accepted", "- Status: superseded by 9999", "head"),
        ("## Reasons", "## Decision", "sections"),
    ],
)
def test_a_broken_form_is_found(copy: Path, old: str, new: str, problem: str) -> None:
    file = copy / "0001-slot-leases.md"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert f"{file.name}: {problem}" in problems(copy)


def test_a_missing_number_and_a_number_used_twice_are_found(copy: Path) -> None:
    (copy / "0002-mappings-are-never-moved.md").rename(copy / "0001-twice.md")
    assert "numbers" in problems(copy)


def test_a_changed_title_is_missing_in_the_table(copy: Path) -> None:
    file = copy / "0001-slot-leases.md"
    file.write_text(file.read_text().replace("# 0001: Slots", "# 0001: All slots", 1))
    assert problems(copy) == {"README.md: table"}
