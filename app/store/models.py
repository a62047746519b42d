"""The tables. `migrations/` makes them; a test compares both."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Double, ForeignKey, LargeBinary, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names on both databases, so that later migrations can name them."""


class Base(DeclarativeBase):
    """Every table's base. Moments are seconds since 1970."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {float: Double()}


class User(Base):
    """Somebody, or some program, that calls the service."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("role IN ('user', 'admin')", name="role"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    active: Mapped[bool]
    created: Mapped[float]
    keys: Mapped[list[ApiKey]] = relationship(back_populates="user")


class ApiKey(Base):
    """A key of a user: what is kept shows that a key is this one, and cannot give it back."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    prefix: Mapped[str] = mapped_column(String(24), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    created: Mapped[float]
    expires: Mapped[float | None]
    revoked: Mapped[float | None]
    user: Mapped[User] = relationship(back_populates="keys", lazy="joined", innerjoin=True)
