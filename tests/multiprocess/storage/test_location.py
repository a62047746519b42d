from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from monitoring.multiprocess.linux import file_lock
from monitoring.multiprocess.storage import location
from monitoring.multiprocess.storage import lock_file as locks
from monitoring.multiprocess.storage.location import VARIABLE, DirectoryError, choose, probe_locks
from tests.conftest import built_environment

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, which only root may")


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(DirectoryError) as caught:
        choose(environ=environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the default directories of this test somewhere private."""
    monkeypatch.setattr(location, "_SHARED_MEMORY", tmp_path)
    return tmp_path


def test_the_given_directory_is_used_as_it_is(tmp_path: Path) -> None:
    assert choose(environ={VARIABLE: str(tmp_path), "RUNTIME_DIRECTORY": "/nowhere"}) == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_relative_directory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics").mkdir()
    monkeypatch.chdir(tmp_path)
    assert choose(environ={VARIABLE: "metrics/"}) == tmp_path / "metrics"


def test_systemd_s_first_runtime_directory(tmp_path: Path) -> None:
    assert choose(environ={"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"}) == tmp_path


def test_an_empty_variable_is_no_directory(shared_memory: Path) -> None:
    assert choose("a:1", environ={VARIABLE: "", "RUNTIME_DIRECTORY": ""}).parent == shared_memory


def test_the_default_is_ours_alone_and_the_same_again(shared_memory: Path) -> None:
    path = choose("127.0.0.1:8000", environ={})
    assert path.parent == shared_memory
    assert str(os.geteuid()) in path.name
    assert path.stat().st_mode & 0o777 == 0o700
    assert choose("127.0.0.1:8000", environ={}) == path
    assert choose(environ={VARIABLE: str(path)}) == path


def test_two_instances_do_not_share_by_default(shared_memory: Path) -> None:
    assert choose("127.0.0.1:8000", environ={}) != choose("127.0.0.1:8001", environ={})
    assert len(list(shared_memory.iterdir())) == 2


def test_without_shared_memory_the_temporary_directory_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "_SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert choose("a:1", environ={}).parent == tmp_path


def test_a_missing_directory(tmp_path: Path) -> None:
    line = refused({VARIABLE: str(tmp_path / "none")})
    assert line == f"{VARIABLE}={tmp_path}/none: not found. Create the directory, or unset the variable"


def test_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert "symbolic link" in refused({VARIABLE: str(tmp_path / "link")})
    assert "symbolic link" in refused({VARIABLE: f"{tmp_path}/link/"})


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in refused({VARIABLE: str(tmp_path / "file")})
    assert "cannot be reached" in refused({VARIABLE: str(tmp_path / "file" / "below")})


def test_a_name_that_no_file_system_takes() -> None:
    assert "cannot be reached" in refused({VARIABLE: "/" + "x" * 5000})


@root_only
def test_an_unwritable_directory() -> None:
    program = f"import os; from monitoring.multiprocess.storage.location import choose; os.setuid({NOBODY}); choose()"
    environment = built_environment() | {VARIABLE: "/"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert f"{VARIABLE}=/: the directory is not writable for user {NOBODY}" in done.stderr
    assert done.returncode != 0


def test_where_everybody_writes_we_use_a_directory_of_our_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    path = choose(environ={VARIABLE: str(tmp_path)})
    assert path.parent == tmp_path
    assert path.name.endswith(f"-{os.geteuid()}")
    assert path.stat().st_mode & 0o777 == 0o700
    assert choose(environ={VARIABLE: str(path)}) == path


def test_a_mount_point_is_the_pod_s_own_whatever_its_mode() -> None:
    path = Path("/dev/shm")
    if not (path.is_mount() and path.stat().st_mode & 0o002):
        pytest.skip("/dev/shm is no world-writable mount point here")
    assert choose(environ={VARIABLE: str(path)}) == path


def test_a_trap_in_place_of_our_directory_is_refused(shared_memory: Path) -> None:
    path = choose("a:1", environ={})
    path.rmdir()
    path.symlink_to(shared_memory)
    with pytest.raises(DirectoryError, match="symbolic link"):
        choose("a:1", environ={})
    path.unlink()
    path.touch()
    with pytest.raises(DirectoryError, match="is not a directory"):
        choose("a:1", environ={})
    path.unlink()
    path.mkdir()
    path.chmod(0o770)
    with pytest.raises(DirectoryError, match="0770"):
        choose("a:1", environ={})


@root_only
@pytest.mark.usefixtures("shared_memory")
def test_another_user_s_directory_is_refused() -> None:
    path = choose("a:1", environ={})
    os.chown(path, NOBODY, -1)
    with pytest.raises(DirectoryError, match=f"belongs to user {NOBODY}, not to 0"):
        choose("a:1", environ={})


def test_processes_that_start_at_once_agree(shared_memory: Path) -> None:
    start = threading.Barrier(8)

    def race(number: int) -> Path:
        start.wait()
        return choose(f"127.0.0.1:{number // 8}", environ={})

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(race, range(80)))
    assert len(set(found)) == 10
    assert {path.stat().st_mode & 0o777 for path in found} == {0o700}
    assert len(list(shared_memory.iterdir())) == 10


def test_the_probe_leaves_nothing_and_meets_no_lease(tmp_path: Path) -> None:
    probe_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []
    lock_file = tmp_path / "lease.lock"
    lock_file.touch()
    with lock_file.open("r+b") as holder:
        fcntl.fcntl(holder, fcntl.F_OFD_SETLK, file_lock._FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1 << 22, 0))
        probe_locks(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lease.lock"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No file system of a test machine refuses locks, so the kernel's answer is the one thing made up here.
    def no_locks(_descriptor: int, _command: int, _argument: Any) -> bytes:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    assert "locking a file in it failed (No locks available)" in refused({VARIABLE: str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_forgets_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = file_lock._FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)
    monkeypatch.setattr(fcntl, "fcntl", lambda *_: free)
    assert "does not keep locks between processes" in refused({VARIABLE: str(tmp_path)})


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lease.lock").symlink_to("/dev/null")
    assert "locking a file in it failed" in refused({VARIABLE: str(tmp_path)})


def test_nothing_imports_prometheus_client() -> None:
    program = (
        "import sys, monitoring, monitoring.multiprocess, monitoring.multiprocess.storage.location, app.settings\n"
        "assert not [name for name in sys.modules if name.startswith('prometheus_client')]"
    )
    subprocess.run([sys.executable, "-c", program], env=built_environment(), check=True)


def test_a_probe_that_a_starting_neighbour_sweeps_is_made_again(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkstemp

    def swept(**arguments: Any) -> tuple[int, str]:
        descriptor, name = make(**arguments)
        os.close(locks.open_lock_file(metrics_directory))  # what a master does that starts at this moment
        Path(name).unlink()
        return descriptor, name

    monkeypatch.setattr(tempfile, "mkstemp", swept)
    location.probe_locks(metrics_directory)


@root_only
def test_what_another_user_left_is_named(metrics_directory: Path, environment: dict[str, str]) -> None:
    os.close(locks.open_lock_file(metrics_directory))
    metrics_directory.chmod(0o777)
    program = (
        f"import fcntl, os; from monitoring.multiprocess.storage import location; from pathlib import Path; os.setuid({NOBODY})\n"
        f"try: location.probe_locks(Path({str(metrics_directory)!r}))\n"
        "except location.DirectoryError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout
    assert f"{metrics_directory / 'lease.lock'} belongs to another user. Remove that file" in said
