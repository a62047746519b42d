"""API keys and their users: creation, storage and look-up of keys.

A key is `nk-<12 hexadecimal digits>-<256 random bits>`. Its prefix finds the row. Only the SHA-256 of the whole key is stored, which is
enough for a secret that cannot be guessed, and is compared in constant time.
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
_NO_DIGEST = bytes(32)


class RoleDiffersError(Exception):
    """The user exists with another role than the requested one."""


async def create(session: AsyncSession, user: str, role: str | None = None, lifetime_seconds: float | None = None) -> tuple[str, ApiKey]:
    """Create a key of this user, and the user if there is none; return the key, which is not stored, and its row."""
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
    """Return the key's row, also of an expired or revoked key; None for an unknown key."""
    form = FORM.fullmatch(key)
    row = None if form is None else await session.scalar(select(ApiKey).where(ApiKey.prefix == form[1]))
    same = hmac.compare_digest(digest(key), _NO_DIGEST if row is None else row.digest)
    return row if same else None


async def listing(session: AsyncSession, after: int, limit: int) -> list[ApiKey]:
    """Return the keys after the id `after`, oldest first."""
    return list(await session.scalars(select(ApiKey).where(ApiKey.id > after).order_by(ApiKey.id).limit(limit)))


async def revoke(session: AsyncSession, number: int) -> bool:
    """Revoke a key for ever; return whether there is such a key."""
    row = await session.get(ApiKey, number)
    if row is not None and row.revoked is None:
        row.revoked = time.time()
    return row is not None


async def users(session: AsyncSession, after: int, limit: int) -> list[User]:
    """Return the users after the id `after`, oldest first."""
    return list(await session.scalars(select(User).where(User.id > after).order_by(User.id).limit(limit)))


async def user(session: AsyncSession, name: str) -> User | None:
    """Return one user, or None."""
    found: User | None = await session.scalar(select(User).where(User.name == name))
    return found


def digest(key: str) -> bytes:
    """Return the stored digest of a key."""
    return hashlib.sha256(key.encode()).digest()


async def _owner(session: AsyncSession, name: str, role: str | None) -> User:
    found = await user(session, name)
    if found is None:
        try:
            async with session.begin_nested():
                found = User(name=name, role=role or "user", active=True, created=time.time())
                session.add(found)
        except IntegrityError:  # another transaction has just created it
            found = await user(session, name)
            if found is None:
                raise
    if role not in (None, found.role):
        raise RoleDiffersError(f"the user {name} has the role {found.role}, not {role}")
    return found
