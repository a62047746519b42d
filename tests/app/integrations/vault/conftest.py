"""A vault in a folder and one in an S3 server that the tests start."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from app.integrations.vault import Vault, create, keyring
from app.integrations.vault.vault import pointer_path
from tests.conftest import built_environment, unused_port
from tests.server_process import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from pathlib import Path

_T = TypeVar("_T")
BUCKET = "things"


def run(work: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(work)


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(vault: Vault, name: str) -> bytes:
    found = await vault.retrieve(name)
    content = b"".join([piece async for piece in found.pieces()])
    assert len(content) == found.size
    return content


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give the environment in which an S3 server of ours is found."""
    port = unused_port()
    folder = tmp_path_factory.mktemp("s3")
    with serving(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, "/", built_environment(), folder / "log"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("PUT", f"/{BUCKET}")
            assert connection.getresponse().status == 200
        yield {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        }


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "vault.key"
    keyring.create(path)
    return path


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return (tmp_path / "a vault").as_uri()
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def vault(url: str, key_file: Path) -> Vault:
    return create(url, "unused", str(key_file))


async def kept(vault: Vault, folder: str = "") -> set[str]:
    return {each.path async for each in vault.storage.list(folder)}


async def blob(vault: Vault, name: str) -> bytes:
    return (await vault.storage.get(pointer_path(name)))[-16:]
