"""The service under test: an app as a user writes it, with routes that do what breaks others."""

# ruff: noqa: E402 - install() comes before anything that imports prometheus_client
from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from monitoring import multiprocess

multiprocess.install()  # before prometheus_client can be imported

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import Counter, Gauge, Histogram, Summary
from starlette.exceptions import HTTPException
from starlette.routing import Route

from monitoring.metrics import MetricsMiddleware
from monitoring.scrape.endpoint import MetricsEndpoint

from .child import count_in_child
from .children import CHILDREN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALIVE = Gauge("faults_alive", "Living workers.", multiprocess_mode="livesum")
HANDLED = Counter("faults_handled", "Calls of /ok.")
SECONDS = Histogram("faults_handled_seconds", "Time in /ok.", buckets=(0.001, 0.1, 1))
SUMMARY = Summary("faults_handled_summary", "Calls of /ok as a summary.")
LABELLED = Counter("faults_labelled", "Calls of /label.", ["name"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Say that this worker lives; nobody says that it died."""
    ALIVE.set(1)
    yield


app = FastAPI(lifespan=lifespan, openapi_url=None)
app.add_middleware(MetricsMiddleware)


@app.api_route("/ok", methods=["GET", "HEAD"])
async def ok() -> dict[str, str]:
    """Count in every cumulative type, then answer."""
    HANDLED.inc()
    SECONDS.observe(0.01)
    SUMMARY.observe(0.5)
    return {"status": "ok"}


@app.get("/pid")
async def pid() -> int:
    """Name the worker."""
    return os.getpid()


@app.get("/slow")
async def slow(seconds: float = 0.2) -> dict[str, str]:
    """Answer late."""
    await asyncio.sleep(seconds)
    return {"status": "slow"}


@app.get("/stream")
async def stream(chunks: int = 5, pause: float = 0.0) -> StreamingResponse:
    """Answer in chunks, without a content-length: the last message is empty."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(chunks):
            await asyncio.sleep(pause)
            yield b"%d\n" % number

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/sized")
async def sized() -> StreamingResponse:
    """Answer with a content-length, whose end an empty message follows."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 50
        yield b"x" * 50

    return StreamingResponse(pieces(), headers={"content-length": "100"})


@app.get("/nocontent", status_code=204)
async def nocontent() -> Response:
    """Answer with nothing."""
    return Response(status_code=204)


@app.get("/empty")
async def empty() -> Response:
    """Answer with content-length 0."""
    return Response()


@app.get("/notmodified")
async def notmodified() -> Response:
    """Answer 304."""
    return Response(status_code=304)


@app.post("/echo")
async def echo(request: Request) -> Response:
    """Give the body back."""
    return Response(await request.body())


@app.get("/label/{name}")
async def label(name: str) -> dict[str, str]:
    """Make a series."""
    LABELLED.labels(name).inc()
    return {"status": name}


@app.get("/block")
async def block(seconds: float = 120.0) -> dict[str, str]:
    """Hold the event loop until the master loses patience."""
    time.sleep(seconds)  # noqa: ASYNC251 - this is the fault
    return {"status": "unblocked"}


@app.get("/child/{method}")
def child(method: str, times: int = 10) -> dict[str, int]:
    """Let a child process count, and wait for it."""
    context = multiprocessing.get_context(method)
    process = context.Process(target=count_in_child, args=(method, times))  # type: ignore[attr-defined]
    process.start()
    process.join()
    if process.exitcode != 0:
        message = f"the child ended with {process.exitcode}"
        raise RuntimeError(message)
    return {"increments": times}


@app.get("/forkstorm")
def forkstorm(forks: int = 20) -> dict[str, int]:
    """Fork while another thread increments; every child increments once."""
    stopping = threading.Event()
    done = 0

    def increment() -> None:
        nonlocal done
        while not stopping.is_set():
            CHILDREN.labels("thread").inc()
            done += 1

    thread = threading.Thread(target=increment)
    thread.start()
    try:
        for _ in range(forks):
            forked = os.fork()
            if forked == 0:
                CHILDREN.labels("storm").inc()
                os._exit(0)
            os.waitpid(forked, 0)
    finally:
        stopping.set()
        thread.join()
    return {"thread": done, "storm": forks}


@app.get("/closefds")
def closefds() -> dict[str, str]:
    """Fork a child that closes everything it inherited, as daemons do, and counts; then count here."""
    forked = os.fork()
    if forked == 0:
        os.closerange(0, 4096)
        CHILDREN.labels("closed").inc()
        os._exit(0)
    os.waitpid(forked, 0)
    CHILDREN.labels("closed").inc()
    return {"status": "closed"}


# As app.main does: what the exporter answers is passed on, and where there is none the worker merges.
app.router.routes.append(Route("/metrics", MetricsEndpoint(bind="127.0.0.1:8000", token=None, missing=lambda: HTTPException(404))))
