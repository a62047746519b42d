"""Objects of which anything was changed in the store: each is refused, and no wrong byte of it is given."""

from __future__ import annotations

import os
import random

import pytest

from app.integrations.vault import (
    TamperedError,
    UnknownObjectError,
    Vault,
)
from app.integrations.vault.encryption import CHUNK_BYTES
from app.integrations.vault.vault import blob_path, key_path, pointer_path
from tests.conftest import PROVES

from .conftest import blob, given, kept, read, run

TAMPERED = 1000 if PROVES else 100
"""The number of objects in a folder for each seed, and ten times that of S3."""


async def change(vault: Vault, name: str, other: str, chance: random.Random) -> None:
    """Do something to what the store keeps of one object."""
    storage = vault.storage
    mine, theirs = await blob(vault, name), await blob(vault, other)
    path = chance.choice([pointer_path(name), blob_path(mine), blob_path(mine), key_path(mine)])
    content = bytearray(await storage.get(path))
    kind = chance.choice(["flip", "cut", "more", "remove", "swap", "rename"])
    if kind == "flip":
        at = chance.randrange(len(content) * 8)
        content[at // 8] ^= 1 << at % 8
    elif kind == "cut":
        del content[chance.randrange(len(content)) :]
    elif kind == "more":
        content += os.urandom(chance.randrange(1, 100))
    elif kind == "remove":
        await storage.remove(path)
        return
    elif kind == "swap":  # two chunks, or with another object's
        path = blob_path(mine)
        content = bytearray(await storage.get(path))
        step = CHUNK_BYTES + 28
        first, second = slice(12, 12 + step), slice(12 + step, 12 + 2 * step)
        if len(content) > 12 + 2 * step:
            content[first], content[second] = content[second], content[first]
        else:
            content = bytearray(await storage.get(blob_path(theirs)))
    else:
        path, content = pointer_path(name), bytearray(await storage.get(pointer_path(other)))
    await storage.put(path, bytes(content))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_in_the_store_is_refused(seed: int, vault: Vault, url: str) -> None:
    """1,000 random objects in a folder, and some in S3: after one change each is refused, and no wrong byte is given."""
    chance = random.Random(seed)

    async def refused(name: str) -> bytes:
        got = bytearray()
        try:
            async for piece in (await vault.retrieve(name)).pieces():
                got += piece
        except TamperedError:
            return bytes(got)
        except UnknownObjectError:
            # A pointer that was removed is an object that was deleted: nobody can tell the two apart.
            assert pointer_path(name) not in await kept(vault, "objects")
            return b""
        pytest.fail(f"{name} was given out")

    async def work() -> None:
        contents = {}
        for number in range(TAMPERED if url.startswith("file:") else TAMPERED // 10):
            size = 2 * CHUNK_BYTES + chance.randrange(1000) if number % 25 == 0 else chance.randrange(3000)
            contents[f"object/{number}"] = os.urandom(size)
            await vault.store(f"object/{number}", given(contents[f"object/{number}"]))
        await vault.store("whole", given(b"whole"))
        for name, content in contents.items():
            await change(vault, name, "whole", chance)
            assert content.startswith(await refused(name))
        assert await read(vault, "whole") == b"whole"

    run(work())
