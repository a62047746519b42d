from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from monitoring.addresses import Address, is_loopback, open_sockets


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        ("tcp://localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        (":9464", Address(port=9464)),
        ("unix:/run/app.sock", Address(path="/run/app.sock")),
        ("unix:relative/é:1", Address(path="relative/é:1")),
        ("fd://3", Address(descriptor=3)),
    ],
)
def test_each_form_is_parsed(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "8000",
            ":",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:http",
            "127.0.0.1:1,",
            "127.0.0.1:\u0661",
        ),
        *("::1:8000", "[]:80", "[::1]", "[::1:80", "::1]:80", "[[::1]]:80", "a b:1", "a\n:1", "a/b:1", "http://127.0.0.1:8000", "tcp://:"),
        *("unix:", "unix:/", "unix", "fd://", "fd:///3", "fd://3x", "fd://-1"),
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is not an address\. Use host:port, \[ipv6\]:port, unix:/path or fd://number\.$"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:8000", True),
        ("127.9.8.7:1", True),
        ("localhost:8000", True),
        ("[::1]:8000", True),
        ("[::ffff:127.0.0.1]:80", True),
        ("tcp://127.0.0.1:8000", True),
        ("0.0.0.0:8000", False),
        (":8000", False),
        ("[::]:8000", False),
        ("10.0.0.1:8000", False),
        ("127.0.0.1.example.com:80", False),
        ("localhost.example.com:80", False),
        ("unix:/run/app.sock", False),
        ("fd://3", False),
    ],
)
def test_addresses_that_only_this_machine_reaches(text: str, loopback: bool) -> None:
    assert Address.parse(text).is_loopback is loopback


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("LOCALHOST", True), ("", False), ("/run/s", False)])
def test_a_host_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:80", (socket.AF_INET, ("127.0.0.1", 80))),
        (":80", (socket.AF_INET, ("0.0.0.0", 80))),
        ("[::1]:80", (socket.AF_INET6, ("::1", 80))),
        ("unix:/run/s", (socket.AF_UNIX, "/run/s")),
    ],
)
def test_the_address_to_bind(text: str, target: object) -> None:
    assert Address.parse(text).resolve() == target


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(OSError, match=r"cannot resolve no\.such\.host\.invalid: "):
        Address.parse("no.such.host.invalid:80").resolve()


def test_open_sockets_are_duplicates_that_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as served, Path("/dev/null").open():
        name = served.getsockname()
        descriptors = len(os.listdir("/proc/self/fd"))
        found = [sock for sock in open_sockets() if sock.getsockname() == name]
        assert found
        assert all(sock.fileno() == -1 for sock in found)
        assert served.getsockname() == name
        assert len(os.listdir("/proc/self/fd")) == descriptors
