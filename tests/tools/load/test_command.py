"""The command line: which service is meant, and what is refused."""

from __future__ import annotations

import sys

import pytest

from tools.load import __main__ as command


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("tcp://10.0.0.7:80,unix:/x", "http://10.0.0.7:80"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("[::]:9000", "http://[::1]:9000"),
    ],
)
def test_bind_says_where_the_service_is(bind: str, url: str) -> None:
    assert command._bound(bind) == url


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "told"),
    [
        (["--url", "ftp://x"], {}, 1, "tools.load: 'ftp://x' is not the address of a service. Use http://"),
        (["--url", "http://x:99999"], {}, 1, "tools.load: 'http://x:99999' is not the address of a service. Use http://"),
        (["--metrics", "9464"], {}, 1, "tools.load: '9464' is not the address of a service. Use http://"),
        ([], {"BIND": "unix:/run/x"}, 1, "tools.load: BIND='unix:/run/x' is not an address that can be called. Set --url."),
        ([], {"BIND": "nonsense"}, 1, "tools.load: BIND='nonsense' is not allowed"),
        (["--requests", "0"], {}, 2, "must be from 1 to 10000000"),
        (["--without", "everything"], {}, 2, "invalid choice: 'everything'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], environ: dict[str, str], code: int, told: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tools.load", *arguments])
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as refused:
        command.main()
    # Python prints what it is, and exits with 1, where it is no number.
    line = capsys.readouterr().err.splitlines()[-1] if refused.value.code == code else str(refused.value.code)
    assert told in line
    assert "\n" not in line
    assert code == (refused.value.code if isinstance(refused.value.code, int) else 1)
