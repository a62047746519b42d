"""Converts names of objects, which may be any text, to paths that work on file systems and in S3, and back.

Letters, digits, `_`, `-` and `.` stay. Every other byte of UTF-8 becomes `=` and two hexadecimal digits, and an empty part between slashes
becomes `=_`. A folder ends in `+` for a slash in the name, and in `~` where a part is too long for a file system. So no object's path is a
folder of another's.
"""

from __future__ import annotations

import re

from app.integrations.vault.errors import InvalidNameError

MOST_BYTES = 512
_MOST_PATH = 900
_LONGEST_PART = 200
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_NOTHING = "=_"
_ESCAPE = re.compile(rb"=([0-9a-f]{2})")


def to_path(name: str) -> str:
    """Return the path of a name; InvalidNameError for an invalid name."""
    if not name:
        raise InvalidNameError("an object needs a name")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidNameError("a name must be Unicode text") from None
    if size > MOST_BYTES:
        raise InvalidNameError(f"a name has at most {MOST_BYTES} bytes of UTF-8, not {size}")
    path = _path(name)
    if len(path) > _MOST_PATH:
        raise InvalidNameError(f"a name takes at most {_MOST_PATH} characters in the store, not {len(path)}: use fewer that need escapes")
    return path


def to_name(path: str) -> str | None:
    """Return the name of a path; None for any other path."""
    try:
        name = "/".join(_unescape(part.replace("~/", "")) for part in path.split("+/"))
        return name if to_path(name) == path else None
    except (InvalidNameError, UnicodeDecodeError, UnicodeEncodeError):
        return None


def folder(prefix: str) -> str:
    """Return the path of the folder with all names of this prefix; empty for all names."""
    above, slash, _ = prefix.rpartition("/")
    return _path(above) + "+" if slash else ""


def _path(name: str) -> str:
    return "+/".join(_shorten(_escape(part)) for part in name.split("/"))


def _escape(part: str) -> str:
    if part in {".", ".."}:
        return part.replace(".", "=2e")
    if not part:
        return _NOTHING
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02x}" for byte in part.encode())


def _unescape(part: str) -> str:
    if part == _NOTHING:
        return ""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), part.encode("ascii")).decode()


def _shorten(part: str) -> str:
    return "~/".join(part[at : at + _LONGEST_PART] for at in range(0, len(part), _LONGEST_PART))
