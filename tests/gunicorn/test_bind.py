"""Every form of BIND and METRICS_BIND under the real gunicorn: it is served, or refused in one line before anything is bound."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gunicorn_service import Gunicorn


def get(family: socket.AddressFamily, target: object, path: str) -> tuple[int, str]:
    """Ask once, over any kind of stream socket."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(target)  # type: ignore[arg-type]
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read().decode()


def has_six(gunicorn: Gunicorn) -> bool:
    """Whether this machine has IPv6; where it has not, the start says so in its one line."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        assert f"BIND=[::1]:{gunicorn.port}: cannot listen there: " in gunicorn.fail(BIND=f"[::1]:{gunicorn.port}")
        return False
    return True


def test_ipv6_a_unix_socket_and_several_at_once(gunicorn: Gunicorn, tmp_path: Path) -> None:
    if not has_six(gunicorn):
        return
    served = str(tmp_path / "é.sock")
    gunicorn.start(BIND=f"127.0.0.1:{gunicorn.port}, [::1]:{gunicorn.port},unix:{served}")
    six = (socket.AF_INET6, ("::1", gunicorn.port))
    assert get(*six, "/health/live")[0] == 200
    assert get(socket.AF_UNIX, served, "/health/live")[0] == 200
    assert get(*six, "/metrics")[0] == 404, "one of the addresses is not loopback: a proxy may stand before the socket"
    line = 'neurectomy_http_requests_total{endpoint="/health/live",method="GET",status="200"} '
    asked = [float(found.removeprefix(line)) for found in gunicorn.scrape().splitlines() if found.startswith(line)]
    assert asked
    assert asked[0] >= 3, "two here, and at least one over IPv4 at the start"


def test_ipv6_alone_with_its_own_exporter_and_metrics_path(gunicorn: Gunicorn) -> None:
    if not has_six(gunicorn):
        return
    ports = gunicorn.port, gunicorn.metrics_port
    master = gunicorn.begin(BIND=f"[::1]:{ports[0]}", METRICS_BIND=f"[::1]:{ports[1]}")

    def served() -> bool:
        try:
            return all(get(socket.AF_INET6, ("::1", port), "/metrics")[0] == 200 for port in ports)
        except OSError:
            return False

    wait_until(served, "both ports of ::1 give the metrics")
    assert Path(f"/proc/{master}").exists()


def test_unix_sockets_alone_also_after_a_kill(gunicorn: Gunicorn, tmp_path: Path) -> None:
    sockets = {"BIND": tmp_path / "api.sock", "METRICS_BIND": tmp_path / "metrics.sock"}

    def served() -> bool:
        try:
            answers = (
                get(socket.AF_UNIX, str(sockets["BIND"]), "/health/live"),
                get(socket.AF_UNIX, str(sockets["METRICS_BIND"]), "/metrics"),
            )
        except OSError:
            return False
        return [status for status, _ in answers] == [200, 200] and "multiproc_workers 2.0" in answers[1][1]

    environ = {name: f"unix:{path}" for name, path in sockets.items()}
    gunicorn.begin(**environ)
    wait_until(served, "both sockets answer")
    assert "the address is in use by process" in gunicorn.fail(**environ)
    gunicorn.end()
    assert sockets["BIND"].is_socket(), "kill -9 leaves the socket's file"
    gunicorn.begin(**environ)
    wait_until(served, "both sockets answer again")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"BIND": "unix:{tmp}/none/api.sock"}, "BIND=unix:{tmp}/none/api.sock: cannot listen there: No such file or directory"),
        ({"BIND": "unix:{tmp}/" + 120 * "x"}, "cannot listen there: AF_UNIX path too long"),
        ({"BIND": "unix:{tmp}/file"}, "BIND=unix:{tmp}/file: cannot listen there: the path is a file that is not a socket"),
        ({"METRICS_BIND": "unix:{tmp}/none/m.sock"}, "METRICS_BIND=unix:{tmp}/none/m.sock: cannot listen there: No such file or directory"),
        ({"METRICS_BIND": "unix:{tmp}/file"}, "METRICS_BIND=unix:{tmp}/file: cannot listen there: the path is a file that is not a socket"),
        ({"BIND": "127.0.0.1:{port},127.0.0.1:{port}"}, "BIND=127.0.0.1:{port} and BIND=127.0.0.1:{port} are the same address"),
        ({"METRICS_BIND": "localhost:{port}"}, "BIND=127.0.0.1:{port} and METRICS_BIND=localhost:{port} are the same address"),
        ({"BIND": "0.0.0.0:{port}", "METRICS_BIND": "127.0.0.1:{port}"}, "are the same address. Set one of them to another address."),
        ({"BIND": "[::]:{port}", "METRICS_BIND": ":{port}"}, "are the same address. Set one of them to another address."),
        ({"BIND": "unix:{tmp}/a", "METRICS_BIND": "unix:{tmp}/./a"}, "are the same address. Set one of them to another address."),
        ({"BIND": "203.0.113.7:{port}"}, "BIND=203.0.113.7:{port}: cannot listen there: Cannot assign requested address"),
        ({"BIND": "[fe80::1]:{port}"}, "BIND=[fe80::1]:{port}: cannot listen there: "),
    ],
)
def test_what_cannot_be_served_is_one_line(gunicorn: Gunicorn, tmp_path: Path, change: dict[str, str], words: str) -> None:
    (tmp_path / "file").touch()
    line = gunicorn.fail(**{name: value.format(tmp=tmp_path, port=gunicorn.port) for name, value in change.items()})
    assert words.format(tmp=tmp_path, port=gunicorn.port) in line
    assert "Errno" not in line


def test_ports_beside_each_other_are_not_the_same(gunicorn: Gunicorn, free_port: Callable[[], int]) -> None:
    other = free_port()
    gunicorn.start(BIND=f"127.0.0.1:{gunicorn.port},127.0.0.1:{other}")
    assert get(socket.AF_INET, ("127.0.0.1", other), "/health/live")[0] == 200
    os.kill(gunicorn.processes[0].pid, signal.SIGTERM)
    assert gunicorn.processes[0].wait(60) == 0
