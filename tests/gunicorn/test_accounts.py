"""`gunicorn --user --group`: root's master, somebody else's workers and exporter, one metrics directory."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, built_environment
from tests.processes import command_line, marked, wait_dead, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gunicorn_service import Gunicorn

USER, GROUP = 54321, 54322
CHANGE = f"import os, sys; os.setgroups([]); os.setgid({GROUP}); os.setuid({USER}); os.execv(sys.argv[1], sys.argv[1:])"
ACCOUNT = ("--user", str(USER), "--group", str(GROUP))


def effective(pid: int) -> tuple[int, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    user, group = (re.findall(rf"^{name}:\t\d+\t(\d+)", status, re.MULTILINE)[0] for name in ("Uid", "Gid"))
    return int(user), int(group)


@pytest.fixture
def wrapper(tmp_path: Path) -> list[str]:
    """A command through which that user reaches the interpreter, also where root keeps it in a home of its own."""
    base = Path(sys.base_prefix).resolve()
    closed = next((path for path in reversed(base.parents) if not path.stat().st_mode & stat.S_IXOTH), None)
    found: list[str] = []
    if closed is not None:
        kept = tmp_path / "interpreter"
        kept.mkdir()
        steps = (
            ["mount", "--bind", str(base), str(kept)],
            ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(closed)],
            ["mkdir", "-p", str(base)],
            ["mount", "--bind", str(kept), str(base)],
        )
        script = " && ".join(map(shlex.join, steps)) + ' && exec "$@"'
        found = ["unshare", "--mount", "sh", "-c", script, "sh"]
    needed = [sys.executable, "-c", "import uvicorn, app.settings"]
    done = subprocess.run([*found, sys.executable, "-c", CHANGE, *needed], cwd=ROOT, check=False, capture_output=True)
    if done.returncode:
        assert os.environ.get("CI") != "true", "CI has to run this as root, with mount namespaces"
        pytest.skip("needs root, and an interpreter that every user may run")
    return found


@pytest.fixture
def data(metrics_directory: Path) -> Iterator[Path]:
    """A folder that does not exist yet, where every user may look."""
    path = Path(f"{metrics_directory}-data")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize(("worker_class", "preload"), [("uvicorn", "0"), ("asgi", "1")])
def test_workers_of_another_user_write_every_file(
    gunicorn: Gunicorn, wrapper: list[str], metrics_directory: Path, data: Path, worker_class: str, preload: str
) -> None:
    gunicorn.wrapper = wrapper
    gunicorn.environment["DATA_DIR"] = str(data)
    master = gunicorn.start(*ACCOUNT, PRELOAD=preload, WORKER_CLASS=worker_class)
    gunicorn.compress()
    assert ask(gunicorn.port, "GET", "/health/ready").status == 200
    for path in (data, data / "neurectomy.db"):
        assert (path.stat().st_uid, path.stat().st_gid) == (USER, GROUP), path
        assert path.stat().st_mode & 0o077 == 0, path
    first = gunicorn.workers(master)
    assert {effective(pid) for pid in first} == {(USER, GROUP)}
    exporters = [pid for pid in marked(gunicorn.marker) if "monitoring.exporter" in command_line(pid)]
    assert {effective(pid) for pid in exporters} == {(USER, GROUP)}
    wait_until((metrics_directory / "exporter.sock").exists, "the exporter's socket for workers")
    assert gunicorn.requests() == 1
    assert ask(gunicorn.port, "GET", "/metrics").status == 200
    for path in (metrics_directory, *metrics_directory.iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (USER, GROUP), path
    os.kill(master, signal.SIGHUP)
    wait_dead(*first)
    for _ in range(20):
        gunicorn.compress()
    assert gunicorn.requests() == 21
    dropped = [line for line in gunicorn.scrape().splitlines() if line.startswith("multiproc_dropped_observations_total{")]
    assert [line.rpartition(" ")[2] for line in dropped] == ["0.0", "0.0"]
    os.kill(master, signal.SIGUSR2)
    second_pidfile = gunicorn.pidfile.with_name("pid.2")
    wait_until(lambda: second_pidfile.exists() and second_pidfile.read_text().strip(), "a second master")
    wait_until(lambda: len(gunicorn.workers(int(second_pidfile.read_text()))) == 2, "its workers")
    os.kill(master, signal.SIGTERM)
    wait_dead(master)
    gunicorn.compress()
    assert gunicorn.requests() == 22
    assert "Permission" not in gunicorn.log.read_text(), "a file that workers could not open"


PRELOADS = f"""
from monitoring.multiprocess import install
from monitoring.multiprocess.linux import file_owner
file_owner.assign({USER}, {GROUP})  # as a master does for --user
install()
from monitoring.breaker import Breaker
assert Breaker("loaded-with-it").state == 0
"""


def test_a_breaker_that_a_preloading_master_looks_at_is_the_workers(metrics_directory: Path) -> None:
    """A master in which anything counts has a slot, and so looks at the state of breakers as its workers do."""
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI has to change the user: run it as root"
        pytest.skip("only root may change the user")
    environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    subprocess.run([sys.executable, "-c", PRELOADS], cwd=ROOT, env=environment, check=True)
    assert list(metrics_directory.glob("breaker-*.state"))
    for path in metrics_directory.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (USER, GROUP), path


def test_a_directory_that_root_has_used_is_given_to_workers(
    gunicorn: Gunicorn, wrapper: list[str], metrics_directory: Path, data: Path
) -> None:
    gunicorn.wrapper = wrapper
    gunicorn.environment["DATA_DIR"] = str(data)
    for name in ("0.users", "breaker-0123456789abcdef.state", "counter_s0.db", "lease.lock"):
        (metrics_directory / name).touch()
    gunicorn.start(*ACCOUNT)
    gunicorn.compress()
    assert (metrics_directory.stat().st_uid, metrics_directory.stat().st_gid) == (USER, GROUP)


def test_the_default_directory_is_named_by_whoever_writes_it(gunicorn: Gunicorn, wrapper: list[str]) -> None:
    del gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"]
    gunicorn.wrapper = wrapper
    found: set[Path] = set()
    try:
        for _ in range(2):
            gunicorn.start(*ACCOUNT)
            gunicorn.compress()
            assert gunicorn.requests() == 1
            line = f"{gunicorn.environment['BIND']}".encode()
            name = f"multiproc-metrics-{USER}-{hashlib.sha256(line).hexdigest()[:12]}"
            found |= {base / name for base in (Path("/dev/shm"), Path("/tmp")) if (base / name).exists()}
            assert [path.stat().st_uid for path in found] == [USER]
            gunicorn.end()
    finally:
        gunicorn.end()
        for path in found:
            shutil.rmtree(path)


def test_a_directory_that_is_not_ours_to_give_is_refused(gunicorn: Gunicorn, metrics_directory: Path) -> None:
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI has to change the user: run it as root"
        pytest.skip("only root may change the user")
    (metrics_directory / "somebody's.txt").touch()
    assert f"the directory is not writable for user {USER}" in gunicorn.fail(*ACCOUNT)
    assert metrics_directory.stat().st_uid == 0
    (metrics_directory / "somebody's.txt").unlink()
    assert "--user=nobody-of-that-name: No such user" in gunicorn.fail("--user", "nobody-of-that-name")


def test_only_root_may_change_the_user(gunicorn: Gunicorn, wrapper: list[str]) -> None:
    gunicorn.wrapper = [*wrapper, sys.executable, "-c", CHANGE]
    assert "Start gunicorn as root" in gunicorn.fail("--user", str(USER + 1))


def test_a_user_in_a_configuration_file_is_refused(gunicorn: Gunicorn, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI has to change the user: run it as root"
        pytest.skip("only root may change the user")
    own = tmp_path / "own_conf.py"
    own.write_text((ROOT / "gunicorn_conf.py").read_text() + f"\nuser = {USER}\n")
    assert "Set --user and --group on the command line" in gunicorn.fail("-c", str(own), LOG_LEVEL="warning")
