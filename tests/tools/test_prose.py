from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tools import prose

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = "The worker takes a slot and writes its values. " * 20
ODD = (
    "whoever | Whomever | nobody | somebody | so many | anew | told | tell | tells | say | says | said | as ever | has to be | "
    "have to be | by itself | of ours | meanwhile | to be had | begin | begins | is no directory | are no links | was no room | "
    "what is | what was | what it | what the | or else | give the | gives a | give an | gives back"
)
NOT_ODD = "else if | There is no. | is not a directory | elsewhere | the teller foretold | essays | gives them | what | beginning | renewed"
#: A line of its own for each string, so that the comments in it are not comments of this file.
SOURCE = (
    '"""Module: anew."""\n'
    'WORDS = "nobody somebody"  # told\n'
    "class Slot:\n"
    '    """Class: anew."""\n'
    "    def take(self):\n"
    '        """Method: anew."""\n'
    "        #: Attribute: anew.\n"
    '        return "said"\n'
    "async def scrape():\n"
    "    # Comment: anew, `told`.\n"
    "    return 1\n"
    '    """Nobody takes this string for a docstring."""\n'
)
CONFIGURATION = '[tool.prose.docs]\nfiles = ["docs/**/*.md"]\nceiling = {}\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one turn in 183 words, and a ceiling just above it."""
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION.format(55))
    (tmp_path / "docs/decisions").mkdir(parents=True)
    (tmp_path / "docs/scraping.md").write_text(PLAIN)
    (tmp_path / "docs/decisions/0001.md").write_text("Nobody waits.\n")
    return tmp_path


@pytest.mark.parametrize("turn", ODD.split(" | "))
def test_one_turn_is_counted_once(turn: str) -> None:
    assert prose.count("", f"It ends {turn} there.").turns == 1


@pytest.mark.parametrize("text", NOT_ODD.split(" | "))
def test_plain_text_has_no_turn(text: str) -> None:
    assert prose.count("", text).turns == 0


def test_words_are_runs_of_letters_and_apostrophes() -> None:
    assert prose.count("", "The worker's 2 slots: s3, max-requests.").words == 6


def test_code_in_markdown_is_skipped() -> None:
    text = "A `tell` in a span.\n\n```\nnobody `tells` anew\n```\n\nPlain `what is\nit`.\n"
    assert prose.count("", prose.markdown_prose(text)) == prose.Figure("", turns=0, words=5)


def test_docstrings_and_whole_line_comments_are_prose() -> None:
    assert prose.count("", prose.python_prose(SOURCE)) == prose.Figure("", turns=5, words=10)


def test_a_project_below_its_ceiling_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prose.check(project)
    assert capsys.readouterr().out.splitlines() == [
        "docs: 55 odd turns in 10,000 words (1 in 182); the ceiling is 55.",
        "  docs/decisions/0001.md: 5000 odd turns in 10,000 words (1 in 2)",
    ]


def test_one_more_turn_fails_and_names_the_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "docs/scraping.md").write_text(PLAIN + "It begins.")
    assert not prose.check(project)
    out = capsys.readouterr().out
    assert "docs/scraping.md" in out
    assert "Rewrite sentences until docs is at its ceiling." in out


def test_a_group_above_its_ceiling_fails_though_the_next_is_below(project: Path) -> None:
    (project / "pyproject.toml").write_text(CONFIGURATION.format(54) + CONFIGURATION.format(60).replace(".docs", ".pages"))
    assert not prose.check(project)


def test_a_ceiling_far_above_the_figure_is_to_be_lowered(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").write_text(CONFIGURATION.format(100))
    assert prose.check(project)
    assert "Lower tool.prose.docs.ceiling in pyproject.toml to 55." in capsys.readouterr().out


def test_patterns_that_match_nothing_are_refused(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.prose.docs]\nfiles = ["doc/*.md"]\nceiling = 9\n')
    with pytest.raises(SystemExit, match=r"tool\.prose\.docs\.files: these patterns match nothing"):
        prose.check(project)


def test_every_markdown_and_product_file_is_in_one_group() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prose"].values()
    checked = [file for group in groups for pattern in group["files"] for file in ROOT.glob(pattern)]
    assert len(checked) == len(set(checked))
    folders = ("app", "benchmarks", "docs", "monitoring", "tests", "tools")
    found = {file for folder in folders for suffix in ("md", "py") for file in (ROOT / folder).rglob(f"*.{suffix}")}
    assert found <= set(checked)


def test_show_prints_turns_with_the_text_around_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prose.main([str(project / "docs/decisions/0001.md")]) == 0
    assert "...Nobody waits...." in capsys.readouterr().out
