"""Builds the response to a scrape, for the exporter and for the application's `/metrics`.

GET and HEAD are answered in the format that the Accept header prefers, complete or filtered by `name[]`, and gzipped if the
scraper accepts it. The merge always starts after the scrape has arrived, so the response holds everything acknowledged before.
This module needs no server, no event loop and no prometheus_client.
"""

import hmac
import logging
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from monitoring.scrape.negotiation import gzip_accepted, openmetrics_preferred, select

OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
PLAIN = b"text/plain; charset=utf-8"

Headers = list[tuple[bytes, bytes]]

_log = logging.getLogger("monitoring.scrape.response")


class Unavailable(Exception):  # noqa: N818 - a state of the directory, which the scraper sees, not a failure
    """There is nothing to merge yet. The scraper gets a 503 with this text."""


class Answer(NamedTuple):
    """A response. Scrapers that get the same answer share its body. The server leaves the body out for HEAD."""

    status: int
    headers: Headers
    body: bytes


class Wanted(NamedTuple):
    """The form of the answer to a scrape. Scrapes of one form share one answer."""

    openmetrics: bool
    zipped: bool
    names: frozenset[bytes]


def plain(status: int, line: bytes, *extra: tuple[bytes, bytes]) -> Answer:
    """Return an answer of one line."""
    return Answer(status, [(b"content-type", PLAIN), (b"content-length", b"%d" % len(line)), *extra], line)


def wanted(headers: Mapping[bytes, bytes], query: bytes) -> Wanted:
    """Return the form that a scrape asks for. Header names are in lower case, and the values of repeated headers joined with commas."""
    names: frozenset[bytes] = frozenset()
    if query:
        from urllib.parse import parse_qs  # rarely needed, and slow to import

        names = frozenset(name.encode() for name in parse_qs(query.decode("latin-1")).get("name[]", ()))
    return Wanted(
        openmetrics_preferred(headers.get(b"accept", b"").decode("latin-1")),
        gzip_accepted(headers.get(b"accept-encoding", b"").decode("latin-1")),
        names,
    )


def expected(token: str | None) -> bytes | None:
    """Return the Authorization header of a token, with the scheme in lower case."""
    return None if not token else b"bearer " + token.encode()


def refusal(method: str, headers: Mapping[bytes, bytes], authorization: bytes | None) -> Answer | None:
    """Return the refusal of another method, or of a scrape without the token. None means that the scrape may be answered."""
    if method not in {"GET", "HEAD"}:
        return plain(405, b"method not allowed: use GET or HEAD\n", (b"allow", b"GET, HEAD"))
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if authorization is not None and not hmac.compare_digest(scheme.lower() + b" " + token.strip(), authorization):
        return plain(401, b"unauthorized: send the bearer token METRICS_TOKEN\n", (b"www-authenticate", b'Bearer realm="metrics"'))
    return None


class Merges:
    """Answers scrapes with `render(openmetrics)`, one merge at a time, in a thread that ends when no scrape waits.

    Scrapes that arrive during a merge share the next one and its answers: 50 scrapers at once cost as much as two.
    """

    def __init__(self, render: Callable[[bool], bytes]) -> None:
        self._render = render
        self._waiting: list[tuple[Wanted, Callable[[Answer], None]]] = []
        self._running = False
        self._forget()

    def ask(self, wanted: Wanted, done: Callable[[Answer], None]) -> None:
        """Have the merging thread call `done` with an answer from a merge that starts after this call."""
        if self._owner != os.getpid():
            self._forget()  # a forked child has not inherited the thread
        with self._lock:
            self._waiting.append((wanted, done))
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="merges", daemon=True).start()

    def warm(self) -> None:
        """Merge once before the first scrape, which then finds all files parsed."""
        if not self._running:
            self.ask(Wanted(openmetrics=False, zipped=False, names=frozenset()), lambda _answer: None)

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._waiting, self._running = [], False

    def _run(self) -> None:
        while True:
            with self._lock:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._running = False
                    return
            bodies: dict[bool, bytes | Answer] = {}
            answers: dict[Wanted, Answer] = {}
            for wanted, done in batch:
                if wanted not in answers:
                    answers[wanted] = self._answer(wanted, bodies)
                done(answers[wanted])

    def _answer(self, wanted: Wanted, bodies: dict[bool, bytes | Answer]) -> Answer:
        try:
            body = bodies.get(wanted.openmetrics)
            if body is None:
                body = bodies[wanted.openmetrics] = self._merge(wanted.openmetrics)
            return body if isinstance(body, Answer) else _shape(body, wanted)
        except Exception:  # noqa: BLE001 - logged, and the scraper needs an answer
            _log.exception("building the answer to a scrape failed")
            return _failed()

    def _merge(self, openmetrics: bool) -> bytes | Answer:
        try:
            return self._render(openmetrics)
        except Unavailable as reason:
            return plain(503, f"{reason}\n".encode(), (b"retry-after", b"1"))
        except Exception:  # noqa: BLE001 - logged, and the scraper needs an answer
            _log.exception("the merge for a scrape failed")
            return _failed()


def _failed() -> Answer:
    return plain(500, b"the merge failed. The log of this process has the cause.\n")


def _shape(body: bytes, wanted: Wanted) -> Answer:
    """Filter and compress, which is too slow for an event loop."""
    if wanted.names:
        body = select(body, wanted.names)
    extra: Headers = [(b"vary", b"Accept, Accept-Encoding")]
    if wanted.zipped:
        compressor = zlib.compressobj(1, wbits=31)  # gzip's frame
        body = compressor.compress(body) + compressor.flush()
        extra.append((b"content-encoding", b"gzip"))
    kind = OPENMETRICS if wanted.openmetrics else TEXT
    return Answer(200, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra], body)
