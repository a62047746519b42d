"""A small OpenAI-compatible server, real HTTP on a port of its own: each of its models behaves in one way, good or bad."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.conftest import unused_port
from tests.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ["Hello", " dear", " world", "!"]
DRIPPING_SECONDS = 20.0
LINGERING_SECONDS = 1.5
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
MODELS = [
    "good",
    "no/usage",
    "slow",
    "lingers",
    "stalls",
    "drips",
    "dead",
    "broken",
    "fails",
    "teapot",
    "fails-once",
    "html",
    "no-json",
    "a-list",
    "no-choices",
    "cut",
    "told-of",
    "refuses",
    "locked",
    "busy",
    "nan",
    "surrogate",
    "liar",
]


class OpenAIServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.ended = threading.Event()
        self.left = threading.Event()
        """Set when somebody went away from a model that drips."""
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self.listed = MODELS

    def handle_error(self, *_: Any) -> None:
        """Clients that went away are no news."""

    def end(self) -> None:
        """Serve nobody any more, not on connections that are open either."""
        self.ended.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.server.ended.is_set():  # a connection that outlived the server
            self.close_connection = True
            return
        self.server.seen.append((self.path, None, {name.lower(): value for name, value in self.headers.items()}))
        self._answer(200, {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "test"} for name in self.server.listed]})

    def do_POST(self) -> None:
        if self.server.ended.is_set():  # a connection that outlived the server
            self.close_connection = True
            return
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body, {name.lower(): value for name, value in self.headers.items()}))
        model = body["model"]
        if not self._misbehaves(model):
            whole = _chat if self.path.endswith("/chat/completions") else _text
            if body.get("stream"):
                self._stream(model, whole, body)
            else:
                usage = (
                    {}
                    if model == "no/usage"
                    else {"usage": USAGE if model != "liar" else {"prompt_tokens": -1, "completion_tokens": "many"}}
                )
                text = "\ud83d" if model == "surrogate" else "".join(WORDS)
                choice = whole(text, "stop") | ({"logprobs": float("nan")} if model == "nan" else {})
                self._answer(200, {"id": "x", "object": "y", "created": 1, "model": model, "choices": [choice], **usage})

    def _misbehaves(self, model: str) -> bool:
        """Answer as a bad server does; tell whether this was all."""
        refusals = {"fails": 500, "teapot": 418, "refuses": 400, "locked": 401, "busy": 429}
        once = model == "fails-once" and sum(body is not None and body["model"] == model for _, body, _ in self.server.seen) == 1
        if model in refusals or once:
            error = {"message": f"{model}: no", "type": "x", "param": "p", "code": "c"}
            self._answer(500 if once else refusals[model], {"error": error})
        elif model == "slow":
            self.server.ended.wait(PATIENCE_SECONDS)
        elif model == "lingers":
            self.server.ended.wait(LINGERING_SECONDS)
            return False
        elif model == "dead":
            self.close_connection = True
        elif model == "broken":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
            self.close_connection = True
        elif model == "html":
            self._answer(200, b"<html>welcome</html>", "text/html")
        elif model == "no-json":
            self._answer(200, b'{"choices": [')
        elif model == "a-list":
            self._answer(200, [1, 2])
        elif model == "no-choices":
            self._answer(200, {"choices": [{"index": "first"}, 3]})
        else:
            return False
        return True

    def _answer(self, status: int, content: Any, kind: str = "application/json") -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, model: str, whole: Any, body: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head = {"id": "x", "object": "y", "created": 1, "model": model}
        for word in WORDS:
            self._event(json.dumps(head | {"choices": [whole(word, None, delta=True)]}))
            if model == "stalls":
                self.server.ended.wait(PATIENCE_SECONDS)
            elif model == "cut":
                self._chunk(b"")
                return
            elif model == "told-of":
                self._event('{"error": {"message": "out of memory"}}')
            elif model == "drips":
                until = time.monotonic() + DRIPPING_SECONDS
                try:
                    while not self.server.ended.wait(0.02) and time.monotonic() < until:
                        self._event(json.dumps(head | {"choices": [whole("drip ", None, delta=True)]}))
                except OSError:
                    self.server.left.set()
                    return
        self._event(json.dumps(head | {"choices": [whole("", "stop", delta=True)]}))
        if model != "no/usage" and body.get("stream_options", {}).get("include_usage"):
            self._event(json.dumps(head | {"choices": [], "usage": USAGE}))
        self._event("[DONE]")
        self._chunk(b"")

    def _event(self, data: str) -> None:
        self._chunk(f"data: {data}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _text(text: str, reason: str | None, *, delta: bool = False) -> dict[str, Any]:
    assert delta in (False, True)
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def _chat(text: str, reason: str | None, *, delta: bool = False) -> dict[str, Any]:
    return {"index": 0, "delta" if delta else "message": {"role": "assistant", "content": text}, "finish_reason": reason}


@contextlib.contextmanager
def openai_server(port: int | None = None) -> Iterator[OpenAIServer]:
    """Serve until the block ends."""
    server = OpenAIServer(port or unused_port())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()
