"""The hooks of gunicorn_conf.py: the metrics directory and the exporter beside a gunicorn master, and its worker class.

Exact counters do not depend on these hooks, but on the kernel's locks. A hook only does early what would happen anyway.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

from gunicorn.config import Config
from gunicorn.errors import ConfigError
from uvicorn_worker import UvicornWorker

from monitoring import multiprocess
from monitoring.exporter.listening_socket import FD_VARIABLE, bind_socket
from monitoring.exporter.supervisor import Exporter

from . import address_conflicts

#: One of these is in the environment of a master that inherits bound sockets, from USR2 or systemd.
_INHERITED = ("GUNICORN_FD", "GUNICORN_PID", "LISTEN_FDS")


class Worker(UvicornWorker):
    """uvicorn's worker, with a shutdown limited to `graceful_timeout`, and at most `limit_concurrency` requests at once."""

    limit_concurrency: ClassVar[int | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.timeout_graceful_shutdown = self.cfg.graceful_timeout
        self.config.limit_concurrency = self.limit_concurrency


class _Master:
    """The state of this process since the configuration was first loaded. HUP loads it again without changing this."""

    prepared = False
    pid = 0
    path = ""
    exporter: Exporter | None = None
    account: tuple[int, int] | None = None


@contextmanager
def refusing() -> Iterator[None]:
    """Turn an error into one line on stderr and exit code 1: gunicorn would print a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        # An OSError that this library raised has the complete line in `strerror`.
        ours = isinstance(error, OSError) and error.filename is None and error.strerror
        _refuse(ours or str(error))


def prepare(*, bind: str, metrics_bind: str, metrics_token: str | None, limit_concurrency: int | None) -> None:
    """Choose the metrics directory, join its run and bind the socket of the exporter, once in the life of a master."""
    if _Master.prepared:
        return
    Worker.limit_concurrency = limit_concurrency
    options = overrides()
    _Master.account = _account(options)
    if _Master.account is not None:
        multiprocess.assign_owner(*_Master.account)
    binds = [part.strip() for text in options.get("bind") or [bind] for part in text.split(",")]
    path = multiprocess.choose_directory(bind=",".join(sorted(binds)))
    if options.get("check_config") or options.get("print_config"):
        _use_nothing_real()
        return
    if not any(name in os.environ for name in _INHERITED) and not options.get("reuse_port"):
        for address in binds:
            if not address.startswith("fd://"):
                address_conflicts.require_free(address, f"BIND={address}")
        metrics_binds = [f"METRICS_BIND={metrics_bind}"] if metrics_bind else []
        address_conflicts.require_apart([*(f"BIND={address}" for address in binds), *metrics_binds])
    if metrics_bind:
        if FD_VARIABLE not in os.environ and not metrics_bind.endswith(":0"):
            address_conflicts.require_free(metrics_bind, f"METRICS_BIND={metrics_bind}")
        _Master.exporter = Exporter(bind_socket(metrics_bind), path, metrics_token, _Master.account)
    multiprocess.install(path)
    _Master.path, _Master.pid, _Master.prepared = str(path), os.getpid(), True


def account() -> tuple[int, int] | None:
    """Return the user and group of the workers after `prepare()`, or None if they are those of the master."""
    return _Master.account


def overrides() -> dict[str, Any]:
    """Return the options of GUNICORN_CMD_ARGS and the command line, which override the configuration file."""
    config = Config()
    parser = config.parser()
    found: dict[str, Any] = {}
    for arguments in (config.get_cmd_args_from_env(), sys.argv[1:]):
        options, _ = parser.parse_known_args(arguments)
        found.update({name: value for name, value in vars(options).items() if value is not None})
    return found


def on_starting(server: Any) -> None:
    """Join the run again after gunicorn has become a daemon: locks stay with the process that took them."""
    here = (os.geteuid(), os.getegid())
    if _Master.prepared and (server.cfg.uid, server.cfg.gid) != (_Master.account or here):
        _refuse(
            f"user={server.cfg.uid}, group={server.cfg.gid} in a configuration file come too late for the metrics directory. "
            "Set --user and --group on the command line or in GUNICORN_CMD_ARGS."
        )
    if _Master.prepared and os.getpid() != _Master.pid:
        multiprocess.join_run(multiprocess.choose_directory())
        _Master.pid = os.getpid()


def when_ready() -> None:
    """Start the exporter, after the sockets of the service are bound."""
    if _Master.exporter is not None:
        _Master.exporter.start()


def post_fork() -> None:
    """Leave the exporter to the master, and acquire a slot. A worker that still changes its user does it afterwards."""
    if _Master.exporter is not None:
        _Master.exporter.forget()
    if _Master.account is None:
        multiprocess.acquire()


def post_worker_init() -> None:
    """Acquire the slot of a worker that has changed its user."""
    multiprocess.acquire()


def pre_exec(server: Any) -> None:
    """Pass the metrics directory and the socket of the exporter to the master that USR2 executes."""
    environ = server.cfg.env_orig
    environ[multiprocess.DIRECTORY_VARIABLE] = _Master.path
    environ.pop(FD_VARIABLE, None)
    if _Master.exporter is not None:
        _Master.exporter.hand_over(environ)


def on_exit() -> None:
    """End the exporter after the last worker."""
    if _Master.exporter is not None:
        _Master.exporter.stop()


def _account(options: dict[str, Any]) -> tuple[int, int] | None:
    """Return the user and group that workers change to, or None if they are those of the master."""
    here = (os.geteuid(), os.getegid())
    config = Config()
    for name in ("user", "group"):
        if name in options:
            try:
                config.set(name, options[name])
            except (ValueError, RuntimeError, ConfigError) as error:
                message = f"--{name}={options[name]}: {error}"
                raise ValueError(message) from error
    wanted = (config.uid, config.gid)
    if wanted == here:
        return None
    if here[0] != 0:
        message = f"--user and --group: user {here[0]} cannot change to user {wanted[0]} and group {wanted[1]}. Start gunicorn as root."
        raise ValueError(message)
    return wanted


def _use_nothing_real() -> None:
    """Set an empty metrics directory: a check of the configuration must not touch that of a running instance."""
    path = tempfile.mkdtemp(prefix="check-config-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.environ[multiprocess.DIRECTORY_VARIABLE] = path


def _refuse(line: str) -> NoReturn:
    print(f"gunicorn_conf.py: {' '.join(line.split())}", file=sys.stderr, flush=True)
    sys.exit(1)
