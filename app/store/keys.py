"""API keys and their users: how a key is made, kept and found.

A key is `nk-<12 hexadecimal digits>-<256 random bits>`. Its beginning finds the row; of the whole only the SHA-256 is kept, which is
enough for something that nobody can guess, and is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.store.models import ApiKey, User

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

FORM = re.compile(r"(nk-[0-9a-f]{12})-[A-Za-z0-9_-]{43}")
USER_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
_NOBODY = bytes(32)


class RoleDiffersError(Exception):
    """The user exists, with another role than the one that was asked for."""


async def create(session: AsyncSession, user: str, role: str | None = None, lifetime_seconds: float | None = None) -> tuple[str, ApiKey]:
    """Make a key of this user, who is made too where there is none; give the key, which nobody can be told again, and what is kept."""
    owner = await _owner(session, user, role)
    now = time.time()
    prefix = f"nk-{secrets.token_hex(6)}"
    key = f"{prefix}-{secrets.token_urlsafe(32)}"
    expires = None if lifetime_seconds is None else now + lifetime_seconds
    kept = ApiKey(user=owner, prefix=prefix, digest=digest(key), created=now, expires=expires, revoked=None)
    session.add(kept)
    await session.flush()
    return key, kept


async def find(session: AsyncSession, key: str) -> ApiKey | None:
    """Give the key's row, expired and revoked ones too; None where there is no such key."""
    form = FORM.fullmatch(key)
    row = None if form is None else await session.scalar(select(ApiKey).where(ApiKey.prefix == form[1]))
    same = hmac.compare_digest(digest(key), _NOBODY if row is None else row.digest)
    return row if same else None


async def listing(session: AsyncSession, after: int, limit: int) -> list[ApiKey]:
    """Give the keys behind the id `after`, oldest first."""
    return list(await session.scalars(select(ApiKey).where(ApiKey.id > after).order_by(ApiKey.id).limit(limit)))


async def revoke(session: AsyncSession, number: int) -> bool:
    """Revoke a key for ever; whether there is such a key."""
    row = await session.get(ApiKey, number)
    if row is not None and row.revoked is None:
        row.revoked = time.time()
    return row is not None


async def users(session: AsyncSession, after: int, limit: int) -> list[User]:
    """Give the users behind the id `after`, oldest first."""
    return list(await session.scalars(select(User).where(User.id > after).order_by(User.id).limit(limit)))


async def user(session: AsyncSession, name: str) -> User | None:
    """Give one user."""
    found: User | None = await session.scalar(select(User).where(User.name == name))
    return found


def digest(key: str) -> bytes:
    """Give what is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


async def _owner(session: AsyncSession, name: str, role: str | None) -> User:
    found = await user(session, name)
    if found is None:
        try:
            async with session.begin_nested():
                found = User(name=name, role=role or "user", active=True, created=time.time())
                session.add(found)
        except IntegrityError:  # somebody else has just made it
            found = await user(session, name)
            if found is None:
                raise
    if role not in (None, found.role):
        raise RoleDiffersError(f"the user {name} has the role {found.role}, not {role}")
    return found
