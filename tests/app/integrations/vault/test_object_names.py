"""Names as paths of the store: reversible, and no object in the way of another."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.integrations.vault import object_names
from app.integrations.vault.errors import InvalidNameError

NAMES = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200), st.text("./=+~_", min_size=1, max_size=8))


def accepted(name: str) -> str:
    try:
        return object_names.to_path(name)
    except InvalidNameError:
        assume(False)
        raise


@given(NAMES)
def test_there_and_back(name: str) -> None:
    path = accepted(name)
    assert object_names.to_name(path) == name
    assert re.fullmatch(r"[A-Za-z0-9_.=+~/-]+", path)
    assert all(part and len(part) <= 201 and part not in {".", ".."} for part in path.split("/"))
    *folders, file = path.split("/")
    # Folders end in what no file ends in: a name that goes on below another's stands beside it.
    assert all(folder[-1] in "+~" for folder in folders)
    assert file[-1] not in "+~"


@given(NAMES, NAMES)
def test_two_names_have_two_paths(first: str, second: str) -> None:
    assume(first != second)
    assert accepted(first) != accepted(second)


@given(NAMES, st.integers(0, 10))
def test_what_has_a_prefix_is_below_its_folder(name: str, length: int) -> None:
    path = accepted(name)
    try:
        folder = object_names.folder(name[:length])
    except InvalidNameError:
        assume(False)
        raise
    assert not folder or path.startswith(f"{folder}/")


@pytest.mark.parametrize("name", ["", "\ud800", "ä" * 257, "é" * 250, "x" * 513])
def test_what_no_object_can_be_called(name: str) -> None:
    with pytest.raises(InvalidNameError):
        object_names.to_path(name)


@pytest.mark.parametrize(
    "path", ["a b", "a=zz", "a+", "+/a", "+", "=_=_", "a=61", ".", "..", "a+/..", "a+/", "a#1", "x" * 201, "=ff", "ä", "a/b", ""]
)
def test_what_is_no_path_of_ours_has_no_name(path: str) -> None:
    assert object_names.to_name(path) is None
