from __future__ import annotations

import gzip
import os
import queue
import threading
from typing import TYPE_CHECKING

import pytest

from monitoring.scrape.response import Answer, Merges, Unavailable, Wanted, expected, refusal, wanted

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = b"# HELP a_total Help.\n# TYPE a_total counter\na_total 1.0\n"
WHOLE = Wanted(openmetrics=False, zipped=False, names=frozenset())


def render(openmetrics: bool) -> bytes:
    return TEXT.replace(b"a_total c", b"a c") + b"# EOF\n" if openmetrics else TEXT


def ask(merges: Merges, asked: Wanted = WHOLE) -> queue.SimpleQueue[Answer]:
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    merges.ask(asked, answers.put)
    return answers


def answer(asked: Wanted = WHOLE, how: Callable[[bool], bytes] = render) -> Answer:
    return ask(Merges(how), asked).get(timeout=60)


def test_formats_and_their_content_types() -> None:
    status, headers, body = answer()
    assert (status, dict(headers)[b"content-type"], body) == (200, b"text/plain; version=0.0.4; charset=utf-8", TEXT)
    assert dict(headers)[b"content-length"] == str(len(TEXT)).encode()
    _, headers, body = answer(WHOLE._replace(openmetrics=True))
    assert dict(headers)[b"content-type"] == b"application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body == render(openmetrics=True)


def test_gzip() -> None:
    _, headers, body = answer(WHOLE._replace(zipped=True))
    assert dict(headers)[b"content-encoding"] == b"gzip"
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
    assert gzip.decompress(body) == TEXT


def test_names() -> None:
    assert answer(WHOLE._replace(names=frozenset({b"b", b"a_total"}))).body == TEXT
    assert answer(WHOLE._replace(names=frozenset({b"b"}))).body == b""


def test_what_a_request_asks_for() -> None:
    assert wanted({}, b"") == WHOLE
    headers = {b"accept": b"application/openmetrics-text", b"accept-encoding": b"gzip"}
    assert wanted(headers, b"x=1&name[]=b&name%5B%5D=a_total") == Wanted(openmetrics=True, zipped=True, names=frozenset({b"a_total", b"b"}))
    assert wanted({}, b"name[]=\xff\xfe&name[]=%ff&name[]=").names  # nothing that can be sent raises


@pytest.mark.parametrize(
    "presented", [b"", b"Bearer", b"Bearer wrong", b"Basic s3cret", b"Bearer s3cre", b"Bearer s3crett", b"Bearer \xff"]
)
def test_a_token_is_needed_where_there_is_one(presented: bytes) -> None:
    refused = refusal("GET", {b"authorization": presented}, expected("s3cret"))
    assert refused is not None
    assert (refused.status, dict(refused.headers)[b"www-authenticate"]) == (401, b'Bearer realm="metrics"')
    assert refused.body == b"unauthorized: send the bearer token METRICS_TOKEN\n"


def test_the_token_opens() -> None:
    for presented in (b"Bearer s3cret", b"bearer s3cret"):
        assert refusal("GET", {b"authorization": presented}, expected("s3cret")) is None
    assert refusal("HEAD", {}, expected("")) is None


def test_other_methods_are_not_allowed() -> None:
    refused = refusal("POST", {}, None)
    assert refused is not None
    assert (refused.status, dict(refused.headers)[b"allow"]) == (405, b"GET, HEAD")


def test_what_is_unavailable_says_why(caplog: pytest.LogCaptureFixture) -> None:
    def nothing(_openmetrics: bool) -> bytes:
        raise Unavailable("no directory yet")

    def broken(_openmetrics: bool) -> bytes:
        raise RuntimeError("inner secret")

    status, headers, body = answer(how=nothing)
    assert (status, dict(headers)[b"retry-after"], body) == (503, b"1", b"no directory yet\n")
    status, _, body = answer(how=broken)
    assert status == 500
    assert b"secret" not in body
    assert "inner secret" in caplog.text


def test_a_merge_that_fails_does_not_fail_the_next() -> None:
    outcomes = iter([RuntimeError("once"), TEXT])

    def sometimes(_openmetrics: bool) -> bytes:
        outcome = next(outcomes)
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    merges = Merges(sometimes)
    assert [ask(merges).get(timeout=60).status for _ in range(2)] == [500, 200]


class Slow:
    """A render that waits to be let go, and knows how many ran at once."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.started = 0
        self.most = 0
        self.running = 0
        self.go = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, openmetrics: bool) -> bytes:
        with self._lock:
            self.started += 1
            self.running += 1
            self.most = max(self.most, self.running)
            mine = self.started
        self.begun.put(mine)
        assert self.go.acquire(timeout=60)
        with self._lock:
            self.running -= 1
        return b"%d %d" % (mine, openmetrics)


def test_scrapes_that_wait_share_one_merge_which_began_after_they_came() -> None:
    slow = Slow()
    merges = Merges(slow)
    first = ask(merges)
    slow.begun.get(timeout=60)
    waiting = [ask(merges) for _ in range(50)]
    zipped = [ask(merges, WHOLE._replace(zipped=True)) for _ in range(2)]
    other = ask(merges, WHOLE._replace(openmetrics=True))
    for _ in range(3):
        slow.go.release()
    assert first.get(timeout=60).body == b"1 0"
    answers = [each.get(timeout=60) for each in waiting]
    assert {each.body for each in answers} == {b"2 0"}
    assert len({id(each.body) for each in answers}) == 1  # not one copy each
    compressed = [each.get(timeout=60).body for each in zipped]
    assert gzip.decompress(compressed[0]) == b"2 0"
    assert compressed[0] is compressed[1]
    assert other.get(timeout=60).body == b"3 1"
    assert (slow.started, slow.most) == (3, 1)


def test_a_forked_child_merges_with_a_thread_of_its_own() -> None:
    slow = Slow()
    merges = Merges(slow)
    first = ask(merges)
    slow.begun.get(timeout=60)
    # Not fork in this process, whose threads are pytest's too: what a child finds is another pid and no thread.
    merges._owner = os.getpid() + 1
    second = ask(merges)
    for _ in range(2):
        slow.go.release()
    assert {first.get(timeout=60).body, second.get(timeout=60).body} == {b"1 0", b"2 0"}
