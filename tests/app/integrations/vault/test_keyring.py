"""VAULT_KEY_FILE: whatever is wrong with it is said in one line, and a new key needs no restart."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import KeyFileError, TamperedError, keyring
from app.integrations.vault.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_made_for_its_owner_alone_and_never_over_another(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    before = key_file.read_bytes()
    with pytest.raises(FileExistsError):
        keyring.create(key_file)
    assert key_file.read_bytes() == before


def test_a_wrapped_key_belongs_to_what_it_was_wrapped_for(key_file: Path) -> None:
    ring = Keyring(key_file)
    wrapped = ring.wrap(bytes(32), b"this")
    assert ring.unwrap(wrapped, b"this") == bytes(32)
    with pytest.raises(TamperedError, match="belongs to another object"):
        ring.unwrap(wrapped, b"that")
    for at in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(TamperedError):
            ring.unwrap(bytes(changed), b"this")
    for length in range(len(wrapped)):
        with pytest.raises(TamperedError):
            ring.unwrap(wrapped[:length], b"this")


def test_a_rotation_is_seen_by_who_runs_and_older_keys_unwrap(key_file: Path) -> None:
    ring = Keyring(key_file)
    old = ring.wrap(b"k" * 32, b"this")
    number = keyring.rotate(key_file)
    assert ring.current == number
    assert keyring.wrapping_key(ring.wrap(b"k" * 32, b"this")) == number
    assert ring.unwrap(old, b"this") == b"k" * 32
    assert keyring.forget(key_file) == 1
    with pytest.raises(TamperedError, match=f"key {keyring.wrapping_key(old).hex()}, which is not in VAULT_KEY_FILE"):
        ring.unwrap(old, b"this")
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == [key_file.name]


def test_without_a_file() -> None:
    with pytest.raises(KeyFileError, match=r"set VAULT_KEY_FILE to a file made by `python -m app\.vault create`"):
        Keyring(None).check()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no key in it"),
        (b"# nothing\n\n", "has no key in it"),
        (b"secret", "line 1: it must be a key's id and the key"),
        (b"\xff\xfe\n", "line 1: it must be a key's id and the key"),
        (b"00 11 22\n", "line 1: it must be a key's id and the key"),
        (b"0000000000000000 " + b"00" * 32, "line 1: the key is damaged"),
        (b"0000000000000000 " + b"00" * 16, "line 1: the key is damaged"),
        (b"x" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_none(content: bytes, reason: str, key_file: Path) -> None:
    key_file.write_bytes(content)
    with pytest.raises(KeyFileError, match=reason) as caught:
        Keyring(key_file).check()
    assert str(key_file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_line_is_named(key_file: Path) -> None:
    keyring.rotate(key_file)
    lines = key_file.read_text().split("\n")
    lines[1] = lines[1][:-1] + ("0" if lines[1][-1] != "0" else "1")
    key_file.write_text("\n".join(lines))
    with pytest.raises(KeyFileError, match="line 2: the key is damaged"):
        Keyring(key_file).check()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o620])
def test_a_file_that_others_may_touch(mode: int, key_file: Path) -> None:
    ring = Keyring(key_file)
    ring.check()
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match="can be read or written by other users"):
        ring.check()


@contextlib.contextmanager
def user(number: int, group: int) -> Iterator[None]:
    """Be somebody else for a moment."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups([group])
    os.setegid(group)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])


@pytest.mark.parametrize(
    ("owner", "group", "mode", "good"),
    [
        (0, 10_001, 0o440, True),
        (0, 10_001, 0o640, True),
        (0, 10_001, 0o460, False),
        (0, 10_001, 0o444, False),
        (10_001, 10_001, 0o440, False),
        (10_001, 10_001, 0o400, True),
    ],
)
def test_a_secret_of_kubernetes_is_read_through_its_group(owner: int, group: int, mode: int, good: bool, metrics_directory: Path) -> None:
    if os.geteuid() != 0:
        assert os.environ.get("CI") != "true", "CI has to run this as root"
        pytest.skip("needs root, to be other users")
    metrics_directory.chmod(0o755)
    path = metrics_directory / "vault.key"
    keyring.create(path)
    os.chown(path, owner, group)
    path.chmod(mode)
    with user(10_001, 10_001):
        if good:
            Keyring(path).check()
        else:
            with pytest.raises(KeyFileError, match="can be read or written by other users"):
                Keyring(path).check()
    # Root's own group is not one that was made for it, and another's group is nobody's business.
    os.chown(path, 0, 0)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="can be read or written by other users"):
        Keyring(path).check()


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        Keyring(tmp_path / "none").check()
    with pytest.raises(KeyFileError, match="not a regular file"):
        Keyring(tmp_path).check()
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(KeyFileError, match="not a regular file"):
        Keyring(tmp_path / "fifo").check()
