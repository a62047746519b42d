"""The ASGI application: `app.main:app`."""

import os

import monitoring.multiprocess

monitoring.multiprocess.install()  # before anything below imports prometheus_client

from collections.abc import AsyncIterator  # noqa: E402
from contextlib import asynccontextmanager  # noqa: E402

from fastapi import FastAPI  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402
from starlette.routing import Route  # noqa: E402

import app as package  # noqa: E402
from app import environment  # noqa: E402
from app.api import compression, health, problems  # noqa: E402
from app.settings import Settings  # noqa: E402
from monitoring import metrics  # noqa: E402
from monitoring.endpoint import MetricsEndpoint  # noqa: E402
from monitoring.middleware import MetricsMiddleware  # noqa: E402


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Take this worker's slot, and be ready until the stop begins."""
    monitoring.multiprocess.acquire()
    app.state.started = True
    yield
    app.state.started = False


def create_app(settings: Settings) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="Neurectomy API", version=package.__version__, lifespan=lifespan)
    app.add_middleware(MetricsMiddleware)
    problems.install(app)
    app.include_router(health.router)
    app.include_router(compression.router)
    if path := settings.metrics_path.rstrip("/"):
        endpoint = MetricsEndpoint(bind=settings.bind, token=settings.metrics_token, missing=lambda: HTTPException(404))
        app.router.routes += [Route(path, endpoint), Route(f"{path}/", endpoint)]
    metrics.system_info.info(environment.describe(os.environ))
    return app


app = create_app(Settings())
