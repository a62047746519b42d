"""The gunicorn configuration: `gunicorn -c gunicorn_conf.py app.main:app`.

All settings come from the environment (docs/configuration.md). GUNICORN_CMD_ARGS and the command line override them.
"""

import logging
import os

from app.settings import Settings
from app.store import sqlite_migration
from monitoring.gunicorn import hooks
from monitoring.gunicorn.resource_limits import default_workers

with hooks.refusing():
    settings = Settings.load()
    hooks.prepare(
        bind=settings.bind,
        metrics_bind=settings.metrics_bind,
        metrics_token=settings.metrics_token,
        limit_concurrency=settings.limit_concurrency,
    )

bind = settings.bind.split(",")
workers = settings.web_concurrency or default_workers(settings.worker_memory_mb)
worker_class = "monitoring.gunicorn.Worker" if settings.worker_class == "uvicorn" else "asgi"
preload_app = settings.preload
max_requests = settings.max_requests
max_requests_jitter = settings.max_requests_jitter
timeout = settings.timeout
graceful_timeout = settings.graceful_timeout
keepalive = settings.keep_alive
forwarded_allow_ips = settings.forwarded_allow_ips
loglevel = settings.log_level
# On a busy disk, late heartbeats would get living workers killed.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
# The control socket breaks read-only containers: it needs --control-socket with a path.
control_socket_disable = "control_socket" not in hooks.overrides()


def on_starting(server: object) -> None:
    """Hold the run, also as a daemon; then migrate the database, before any worker uses it."""
    hooks.on_starting(server)
    if failed := sqlite_migration.by_master(settings.database, hooks.account()):
        logging.getLogger("gunicorn.error").error("%s; /health/ready is 503 until it is ready", failed)


def when_ready(_server: object) -> None:
    """Serve the merged metrics."""
    hooks.when_ready()


def post_fork(_server: object, _worker: object) -> None:
    """Acquire the worker's slot."""
    hooks.post_fork()


def post_worker_init(_worker: object) -> None:
    """Acquire the slot of a worker that has changed its user."""
    hooks.post_worker_init()


def pre_exec(server: object) -> None:
    """Keep directory and exporter through USR2."""
    hooks.pre_exec(server)


def on_exit(_server: object) -> None:
    """Stop the exporter."""
    hooks.on_exit()
