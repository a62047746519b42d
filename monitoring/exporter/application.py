"""The exporter's two paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.scrape.response import Answer, Merges, expected, plain, refusal, wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitoring.exporter.connection import Request


class Application:
    """``/metrics`` and ``/healthz``."""

    def __init__(self, merges: Merges, token: str | None) -> None:
        """`token` is what a scraper must present, if any."""
        self._merges = merges
        self._authorization = expected(token)

    def __call__(self, request: Request, done: Callable[[Answer], None]) -> Answer | None:
        """Answer at once, or return None and have a merge call `done`."""
        path = request.path.rstrip(b"/")
        if path == b"/healthz":
            return plain(200, b"ok\n")
        if path != b"/metrics":
            return plain(404, b"not found: the paths are /metrics and /healthz\n")
        refused = refusal(request.method, request.headers, None if request.trusted else self._authorization)
        if refused is None:
            self._merges.ask(wanted(request.headers, request.query), done)
        return refused
