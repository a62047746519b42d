"""The ASGI application: `app.main:app`."""

import logging
import os
import sys

import monitoring.multiprocess
from app.settings import Settings

try:
    settings = Settings.load()
    monitoring.multiprocess.install()  # before anything below imports prometheus_client
except ValueError as error:  # one line names the variable or directory that is wrong, and why
    sys.exit(f"app.main: {error}")

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Route

import app as package
from app.api import agents, auth, compression, dictionaries, health, keys, prices, problems, ryot, snapshots, vault
from app.api.body_slots import BodySlots
from app.integrations import sigmalang
from app.integrations import vault as sigmavault
from app.integrations.dictionaries import Dictionaries
from app.integrations.ryot import Backend, RyotError, remote, stand_in
from app.integrations.vault.maintenance import Maintenance
from app.reporting.agents import Collective
from app.reporting.usage import Business
from app.store import database
from app.store.database import Database
from monitoring import metrics
from monitoring.gpu.worker import watching
from monitoring.http.middleware import MetricsMiddleware
from monitoring.scrape.endpoint import MetricsEndpoint

from . import deployment_info


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Acquire this worker's slot, and be ready until the worker stops."""
    monitoring.multiprocess.acquire()
    if failed := await app.state.database.start(needed=settings.require_api_key):
        logging.getLogger("neurectomy.store").error("%s; /health/ready is 503 until it is ready", failed)
    await app.state.ryot.start()
    with watching(settings.gpu_seconds, pids_match=settings.gpu_pids_match, read=settings.gpu_in == "worker"):
        async with (
            Maintenance(app.state.vault.objects, app.state.vault.snapshots).running(),
            app.state.business.running(),
            app.state.collective.running(),
        ):
            app.state.started = True
            yield
            app.state.started = False
    await app.state.ryot.close()
    await app.state.database.close()


def create_models(settings: Settings) -> Backend:
    """Return the backend of models: the server at RYOT_BASE_URL, or the stand-in."""
    waits = settings.ryot_timeout, settings.ryot_stream_timeout
    if settings.ryot_base_url:
        return remote.Remote(settings.ryot_base_url, settings.ryot_api_key, *waits, settings.ryot_breaker)
    pace, loading = settings.ryot_standin_tokens_per_second, settings.ryot_standin_loading_seconds
    return stand_in.StandIn(*waits, tokens_per_second=pace, loading_seconds=loading)


def create_app(settings: Settings) -> FastAPI:
    """Build the application."""
    app = FastAPI(title="Neurectomy API", version=package.__version__, lifespan=lifespan)
    app.add_middleware(MetricsMiddleware)
    problems.install(app)
    app.add_exception_handler(RyotError, ryot.refuse)
    app.add_exception_handler(Exception, ryot.unexpected)
    app.state.database = Database(settings.database)
    app.state.business = Business(app.state.database, settings.user_window_seconds)
    app.state.collective = Collective(app.state.database)
    app.state.guard = auth.Guard(app.state.database, required=settings.require_api_key, admin_key=settings.admin_key)
    if settings.preload and settings.require_api_key:
        database.load()  # once, for all workers; nothing is opened
    app.include_router(health.router)
    app.state.sigmalang = compression.Sigmalang(
        sigmalang.Bounds(settings.sigmalang_max_document_bytes, settings.sigmalang_max_unfolded_bytes),
        Dictionaries(Path(settings.data_dir).absolute() / "dictionaries", settings.sigmalang_max_dictionaries),
        BodySlots(settings.sigmalang_max_long_bodies),
    )
    auth.include(app, compression.router, "user")
    auth.include(app, dictionaries.changing, "admin")
    auth.include(app, dictionaries.router, "user")
    auth.include(app, ryot.router, "user", openai=True)
    stored = sigmavault.create(settings.vault_url, settings.data_dir, settings.vault_key_file, settings.vault_breaker)
    app.state.vault = vault.VaultState(stored, sigmavault.Snapshots(stored), settings.vault_max_object_bytes)
    auth.include(app, vault.router, "user")
    auth.include(app, snapshots.router, "admin")
    auth.include(app, keys.router, "admin")
    auth.include(app, prices.router, "admin")
    auth.include(app, agents.router, "admin")
    app.state.ryot = create_models(settings)
    if settings.metrics_path:
        bare = settings.metrics_path.rstrip("/")
        endpoint = MetricsEndpoint(bind=settings.bind, token=settings.metrics_token, missing=lambda: HTTPException(404))
        app.router.routes += [Route(path, endpoint) for path in sorted({bare or "/", f"{bare}/"})]
    metrics.system_info.info(deployment_info.describe(os.environ))
    return app


app = create_app(settings)
