from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess.storage.bind_address import bound_address
from tests.conftest import built_environment

if TYPE_CHECKING:
    from pathlib import Path

ASK = "import os; from monitoring.multiprocess.storage.bind_address import bound_address; print(bound_address(os.environ))"


def ask(*arguments: str, pass_fds: tuple[int, ...] = (), **environ: str) -> str:
    """Give what a fresh process says that was started with this command line and environment."""
    program = f"import sys; sys.argv = {list(arguments)!r}; {ASK}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=built_environment() | environ, pass_fds=pass_fds, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/usr/bin/uvicorn", "app.main:app", "--port", "9"], "127.0.0.1:9"),
        (["uvicorn", "--workers", "4", "--host=::1", "--port=9", "app.main:app"], "::1:9"),
        (["/lib/uvicorn/__main__.py", "--host", "0.0.0.0", "app.main:app"], "0.0.0.0:8000"),
        (["uvicorn", "--uds", "/run/x.sock", "app.main:app"], "unix:/run/x.sock"),
        (["gunicorn", "-b", "b:2", "--bind", "a:1", "app.main:app"], "a:1,b:2"),
        (["uvicorn", "app.main:app"], "127.0.0.1:8000"),
        (["some-script"], "127.0.0.1:8000"),
        (["uvicorn", "app.main:app", "--port"], "127.0.0.1:8000"),
    ],
)
def test_the_command_line(arguments: list[str], expected: str) -> None:
    assert ask(*arguments) == expected


def test_uvicorn_s_own_variables() -> None:
    assert ask("uvicorn", "app.main:app", UVICORN_PORT="9", UVICORN_HOST="127.0.0.2") == "127.0.0.2:9"
    assert ask("uvicorn", "--port", "8", "app.main:app", UVICORN_PORT="9") == "127.0.0.1:8"
    assert ask("gunicorn", "app.main:app", UVICORN_PORT="9") == "127.0.0.1:8000"


def test_the_environment_where_nothing_else_tells() -> None:
    assert ask("script", BIND="127.0.0.1:7") == "127.0.0.1:7"
    assert ask("script", PORT="7") == "0.0.0.0:7"
    assert ask("script", BIND="127.0.0.1:7", PORT="8") == "127.0.0.1:7"


@pytest.mark.parametrize("listening", [True, False])
def test_an_inherited_socket_names_the_port_that_the_kernel_picked(listening: bool) -> None:
    with socket.socket() as served:
        served.bind(("127.0.0.1", 0))
        if listening:
            served.listen()
        port = served.getsockname()[1]
        arguments = ["uvicorn", "--port", "0", "--workers", "2", "app.main:app"]
        assert ask(*arguments, pass_fds=(served.fileno(),)) == f"127.0.0.1:{port}"
        descriptor = str(served.fileno())
        assert ask("uvicorn", "--fd", descriptor, "app.main:app", pass_fds=(served.fileno(),)) == f"127.0.0.1:{port}"


def test_a_named_unix_socket_counts_and_a_connection_does_not(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as served, closing(socket.socket(socket.AF_UNIX)) as client:
        served.bind(str(tmp_path / "s"))
        served.listen()
        client.connect(str(tmp_path / "s"))
        accepted, _ = served.accept()
        with accepted:
            descriptors = (served.fileno(), client.fileno(), accepted.fileno())
            assert ask("script", pass_fds=descriptors) == f"unix:{tmp_path}/s"
            assert ask("script", pass_fds=descriptors[1:]) == "127.0.0.1:8000"


def test_children_of_a_supervisor_read_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/uvicorn", "--port", "9", "--workers", "2", "app.main:app"])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert set(pool.map(bound_address, [{}, {}, {}, {}])) == {"127.0.0.1:9"}
        pool.close()
        pool.join()
