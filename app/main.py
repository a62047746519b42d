"""The ASGI application: ``app.main:app``."""

import monitoring.multiprocess

monitoring.multiprocess.install()  # before anything below imports prometheus_client

from collections.abc import AsyncIterator  # noqa: E402
from contextlib import asynccontextmanager  # noqa: E402

from fastapi import FastAPI  # noqa: E402

import app as package  # noqa: E402
from app.api import health, problems  # noqa: E402
from monitoring.middleware import MetricsMiddleware  # noqa: E402


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Take this worker's slot, and be ready until the stop begins."""
    monitoring.multiprocess.acquire()
    app.state.started = True
    yield
    app.state.started = False


def create_app() -> FastAPI:
    """Build the application."""
    app = FastAPI(title="Neurectomy API", version=package.__version__, lifespan=lifespan)
    app.add_middleware(MetricsMiddleware)
    problems.install(app)
    app.include_router(health.router)
    return app


app = create_app()
