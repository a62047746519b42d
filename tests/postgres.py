"""A real PostgreSQL for tests: a private directory and port, a user of its own where we are root, ended with the tests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import unused_port
from tests.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "listen_addresses": "127.0.0.1",
}


def tools() -> Path:
    """Give the folder of PostgreSQL's programs; skip where there are none, which CI must not."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        assert os.environ.get("CI") != "true", "CI has to install postgresql"
        pytest.skip("needs PostgreSQL's initdb and postgres")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


@dataclass
class PostgreSQL:
    """One server, and databases in it."""

    folder: Path
    port: int
    account: tuple[int, int] | None
    process: subprocess.Popen[bytes] | None = None
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        user, group = self.account or (None, None)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=group,
                extra_groups=None if self.account is None else [],
            )

    def start(self) -> None:
        """Start the server, and return when it takes queries."""
        programs = tools()
        data = self.folder / "data"
        if not data.exists():
            made = self.run(
                str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"
            )
            assert made.wait() == 0, self.log
        options = itertools.chain(*(("-c", f"{name}={value}") for name, value in _SETTINGS.items()))
        self.process = process = self.run(
            str(programs / "postgres"), "-D", str(data), "-p", str(self.port), "-k", str(self.folder), *options
        )

        def answers() -> bool:
            assert process.poll() is None, self.log
            with contextlib.suppress(Exception):
                self.query("postgres", "SELECT 1")
                return True
            return False

        wait_until(answers, "PostgreSQL answers")

    def stop(self) -> None:
        """End it at once: every connection breaks."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def query(self, database: str, statement: str) -> list[Any]:
        """Run one statement."""
        import asyncpg

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(host="127.0.0.1", port=self.port, user="tester", database=database)
            try:
                return list(await connection.fetch(statement))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def create(self) -> str:
        """Make an empty database, and give its DATABASE_URL."""
        name = f"test_{next(self.numbers)}"
        self.query("postgres", f"CREATE DATABASE {name}")
        return f"postgresql+asyncpg://tester@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Run a server until the block ends."""
    tools()
    folder = Path(tempfile.mkdtemp(prefix="neurectomy-test-postgresql-"))
    account = None
    if os.geteuid() == 0:  # which PostgreSQL refuses to be
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                account = pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid
                break
        assert account is not None
        os.chown(folder, *account)
    server = PostgreSQL(folder, unused_port(), account)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
