from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from monitoring.addresses import Address
from monitoring.gunicorn.address_conflicts import AddressInUseError, holders, require_free
from tests.conftest import built_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOLD = """
import socket, sys, time
family = socket.AF_UNIX if sys.argv[1].startswith("/") else socket.AF_INET
served = socket.socket(family)
served.bind(sys.argv[1] if family == socket.AF_UNIX else ("127.0.0.1", int(sys.argv[1])))
served.listen()
print("listening", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(where: str) -> Iterator[int]:
    """Have another process listen somewhere; give its pid."""
    command = [sys.executable, "-c", HOLD, where]
    process = subprocess.Popen(command, env=built_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "listening\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def test_a_free_address(free_port: Callable[[], int], tmp_path: Path) -> None:
    port = free_port()
    require_free(f"127.0.0.1:{port}", "BIND")
    require_free(f"tcp://localhost:{port}", "BIND")
    require_free(f":{port}", "BIND")
    require_free(f"unix:{tmp_path}/none", "BIND")
    assert holders(Address.parse(f"127.0.0.1:{port}")) == []


def test_the_holder_of_a_port_is_named(free_port: Callable[[], int]) -> None:
    port = free_port()
    with holding(str(port)) as pid:
        assert holders(Address.parse(f"0.0.0.0:{port}")) == [pid]
        with pytest.raises(AddressInUseError, match=rf"^BIND=x: the address is in use by process {pid}\. Stop them") as caught:
            require_free(f"127.0.0.1:{port}", "BIND=x", patience_seconds=0)
    assert "\n" not in str(caught.value)
    require_free(f"127.0.0.1:{port}", "BIND=x")


def test_a_server_that_is_just_ending_is_waited_for(free_port: Callable[[], int]) -> None:
    port = free_port()
    end = f"import os, time; time.sleep(0.5); os.kill({{}}, 9); print({port})"
    with holding(str(port)) as pid:
        killer = subprocess.Popen([sys.executable, "-c", end.format(pid)], stdout=subprocess.DEVNULL)
        require_free(f"127.0.0.1:{port}", "BIND", patience_seconds=60)
        assert killer.wait() == 0


def test_the_holder_of_a_unix_socket_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with holding(str(path)) as pid, pytest.raises(AddressInUseError, match=rf"process {pid}\."):
        require_free(f"unix:{path}", "BIND", patience_seconds=0)
    assert path.exists()
    require_free(f"unix:{path}", "BIND")


def test_a_file_in_the_place_of_a_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AddressInUseError, match="a file that is not a socket"):
        require_free(f"unix:{tmp_path}/file", "BIND")


def test_an_address_of_another_machine() -> None:
    with pytest.raises(AddressInUseError, match=re.escape("BIND=192.0.2.1:80: cannot listen there: Cannot assign requested address")):
        require_free("192.0.2.1:80", "BIND=192.0.2.1:80")


def test_we_are_not_our_own_holder() -> None:
    with socket.socket() as served:
        served.bind(("127.0.0.1", 0))
        served.listen()
        assert os.getpid() not in holders(Address.parse(f"127.0.0.1:{served.getsockname()[1]}"))
        with pytest.raises(AddressInUseError, match="another user or container"):
            require_free(f"127.0.0.1:{served.getsockname()[1]}", "BIND", patience_seconds=0)
