"""Any bytes in any pieces, against the exporter's own parser of requests; httptools is the model where both accept."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import httptools
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitoring.exporter.connection import HEAD_BYTES, Connection, Request
from monitoring.scrape.response import Answer
from tests.exporter.test_server import everything, running, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    Outcome = Request | Answer | None

END = b"\r\n\r\n"
TOKEN = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12).map(str.encode)
VALUE = st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte == 9 or (byte >= 32 and byte != 127)))
SPACE = st.sampled_from([b"", b" ", b"  ", b"\t"])
PATH = st.text("abc/%20?=&[];:~.", max_size=30).map(lambda text: f"/{text}".encode())
#: Parts of requests, so that nonsense comes far into the parser.
PARTS = [
    *(b"GET", b"POST", b"get", b" ", b"  ", b"\t", b"/", b"/metrics", b"*", b"?", b"http://h/p", b"HTTP://", b"HTTP/1.1", b"HTTP/1.0"),
    *(b"HTTP/2", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b":", b"host", b"Content-Length", b"Transfer-Encoding", b"chunked", b"0"),
    *(b"9", b",", b"\0", b"\xff"),
]
NONSENSE = st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(PARTS), max_size=30).map(b"".join))
MANY = settings(max_examples=300, deadline=None)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a valid request without a body."""
    method = draw(st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"]))
    target = draw(PATH | PATH.map(lambda path: b"http://127.0.0.1:1" + path))
    lines = [b"%s %s HTTP/1.%d" % (method, target, draw(st.integers(0, 1)))]
    for name in draw(st.lists(st.sampled_from([b"Accept", b"accept", b"Host", b"X"]) | TOKEN, max_size=8)):
        lines += [name + b":" + draw(SPACE) + draw(VALUE) + draw(SPACE)]
    return b"\r\n".join(lines) + END


class Peer:
    """The socket of a peer that has sent these pieces, and sends no more."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = deque(piece for piece in pieces if piece)

    def recv(self, size: int) -> bytes:
        piece = self.pieces.popleft()
        if len(piece) > size:
            self.pieces.appendleft(piece[size:])
        return piece[:size]


def read(pieces: Sequence[bytes]) -> Outcome:
    """Return what a connection makes of these pieces, up to its answer or request."""
    peer = Peer(pieces)
    connection = Connection(cast("socket.socket", peer), trusted=False, seconds=1.0)
    found = None
    while peer.pieces and found is None:
        found = connection.read()
        assert len(connection._received) < (HEAD_BYTES + len(END) if found is None else 1), "no more is kept than the limit"
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


class Model:
    """What httptools makes of a request."""

    def __init__(self, data: bytes) -> None:
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.complete = False
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip()
        self.headers[name] = self.headers[name] + b"," + value if name in self.headers else value

    def on_headers_complete(self) -> None:
        self.complete = True


def compare(request: Request, model: Model) -> None:
    assert request.method.encode() == model.parser.get_method()
    assert request.headers == model.headers
    target = model.target
    if target[:7].lower() == b"http://":
        target = b"/" + target[7:].partition(b"/")[2]
    path, _, query = target.partition(b"?")
    assert (request.path, request.query) == (path, query)


@MANY
@given(NONSENSE | requests(), st.lists(st.integers(0, 1000), max_size=8))
@example(b"GET / HTTP/1.1\r\n: x\r\n\r\n", [5])
@example(b"\r\n\r\n", [1, 2, 3])
def test_pieces_make_no_difference(data: bytes, places: list[int]) -> None:
    found = read([data])
    assert read(cut(data, places)) == found
    assert read([data[at : at + 1] for at in range(len(data))]) == found
    assert (found is None) == (END not in data)
    assert isinstance(found, Request | None) or found.status == 400


@MANY
@given(requests(), NONSENSE, st.lists(st.integers(0, 1000), max_size=8))
def test_a_valid_request_is_the_models(request: bytes, more: bytes, places: list[int]) -> None:
    found, model = read(cut(request + more, places)), Model(request)
    assert model.complete
    assert isinstance(found, Request)
    compare(found, model)


@MANY
@given(st.lists(st.sampled_from(PARTS), max_size=20).map(b"".join), st.integers(0, 40))
@example(b"\nX: ", 5)  # a line feed alone ends a line for some servers
def test_nonsense_that_both_accept_is_the_same(noise: bytes, at: int) -> None:
    whole = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
    head = (whole[:at] + noise + whole[at:]).partition(END)[0] + END
    found, model = read([head]), Model(head)
    if isinstance(found, Request) and model.complete:
        compare(found, model)


@pytest.mark.parametrize("size", range(HEAD_BYTES - 2, HEAD_BYTES + 3))
def test_the_limit_of_a_head_is_the_same_in_any_pieces(size: int) -> None:
    start = b"GET / HTTP/1.1\r\nA: "
    head = start + b"a" * (size - len(start))
    data = head + END + b"more"
    for at in range(size - 1, len(data) + 1):
        found = read([data[:at], data[at:]])
        if size > HEAD_BYTES:
            assert isinstance(found, Answer)
            assert found.status == 431
        else:
            assert isinstance(found, Request)


def test_an_endless_head_is_answered_before_it_is_kept() -> None:
    peer = Peer([b"a" * 1000] * 1000)
    connection = Connection(cast("socket.socket", peer), trusted=False, seconds=1.0)
    found = None
    while found is None:
        found = connection.read()
    assert isinstance(found, Answer)
    assert found.status == 431
    assert len(peer.pieces) >= 1000 - HEAD_BYTES // 1000 - 1


def test_each_connection_gets_an_answer_or_its_end() -> None:
    with running() as serving:

        @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
        @given(NONSENSE | requests(), st.lists(st.integers(0, 1000), max_size=3))
        def check(data: bytes, places: list[int]) -> None:
            answer = b""
            with serving.connect() as client, contextlib.suppress(ConnectionError):
                for piece in cut(data, places):
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                answer = everything(client)
            if isinstance(read([data]), Request):
                assert status(answer) == 200
            else:
                assert answer == b"" or status(answer) == 400

        check()
        assert status(serving.ask(b"GET /a HTTP/1.1\r\n\r\n")) == 200
