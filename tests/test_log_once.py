"""Each problem is logged once, until it is over."""

from __future__ import annotations

import logging

import pytest

from monitoring.log_once import LogOnce


@pytest.fixture
def problems() -> LogOnce:
    return LogOnce(logging.getLogger("a component"))


def test_a_problem_is_logged_once(problems: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        problems.warn("the disk is 100% full")
    problems.warn("no slot is free", level=logging.ERROR)
    assert caplog.record_tuples == [
        ("a component", logging.WARNING, "the disk is 100% full"),
        ("a component", logging.ERROR, "no slot is free"),
    ]


def test_two_messages_about_one_problem_are_one(problems: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    problems.warn("3 samples are kept", about="a file")
    problems.warn("4 samples are kept", about="a file")
    assert caplog.messages == ["3 samples are kept"]


def test_a_problem_that_comes_back_is_logged_again(problems: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        problems.warn("a", about="first")
        problems.warn("b", about="second")
        problems.over("first")
    assert caplog.messages == ["a", "b", "a"]


def test_only_problems_that_remain_are_not_logged_again(problems: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        for message in "ab":
            problems.warn(message)
        problems.clear(but={"b"})
    assert caplog.messages == ["a", "b", "a"]
    problems.clear()
    problems.warn("b")
    assert caplog.messages[3:] == ["b"]


def test_the_log_of_a_component_is_bounded(problems: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(150):
        problems.warn(str(number))
    assert caplog.messages == [str(number) for number in range(100)]
    problems.over("7")
    problems.warn("room for one more")
    problems.warn("and no other")
    assert caplog.messages[100:] == ["room for one more"]
