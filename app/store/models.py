"""The tables. `migrations/` creates them; a test compares both."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKey, Integer, LargeBinary, MetaData, String, Text, UniqueConstraint
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
    """The base of all tables. Times are seconds since 1970."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {float: Double()}


class User(Base):
    """A person or a program that uses the service."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint("role IN ('user', 'admin')", name="role"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    active: Mapped[bool]
    created: Mapped[float]
    keys: Mapped[list[ApiKey]] = relationship(back_populates="user")


class ApiKey(Base):
    """A key of a user. The stored digest verifies the key, but does not reveal it."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    prefix: Mapped[str] = mapped_column(String(24), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    created: Mapped[float]
    expires: Mapped[float | None]
    revoked: Mapped[float | None]
    user: Mapped[User] = relationship(back_populates="keys", lazy="joined", innerjoin=True)


class Price(Base):
    """The price of a token, in 10⁻¹² dollars: whole numbers are exact on both databases. `*` means every endpoint, or model."""

    __tablename__ = "prices"
    __table_args__ = (UniqueConstraint("endpoint", "model"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(512))
    prompt: Mapped[int] = mapped_column(BigInteger)
    generated: Mapped[int] = mapped_column(BigInteger)


class Usage(Base):
    """One billed call of a model; `cost` is in 10⁻¹² dollars, at the price of that time."""

    __tablename__ = "usage"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    endpoint: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(512))
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    generated_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[float] = mapped_column(index=True)


class Activity(Base):
    """The requests of one user (a keyed hash) in one window of time, until it is closed."""

    __tablename__ = "activity"

    window: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    requests: Mapped[int] = mapped_column(BigInteger)


class Seen(Base):
    """The time of the last request of a user (a keyed hash)."""

    __tablename__ = "seen"

    user: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    moment: Mapped[float] = mapped_column(index=True)


class Taken(Base):
    """The last half of a worker's table whose notes are in `activity`."""

    __tablename__ = "taken"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    half: Mapped[int] = mapped_column(BigInteger)
    moment: Mapped[float]


class Secret(Base):
    """A secret that all instances on this database share."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary(32))


class Elected(Base):
    """The instance that holds a role of the whole database, and the time until which it holds it unless it renews it."""

    __tablename__ = "elected"

    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    until: Mapped[float]


class RequestsPerUser(Base):
    """The totals of all closed windows: the users whose number of requests falls into this bucket, and these requests."""

    __tablename__ = "requests_per_user"

    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    users: Mapped[int] = mapped_column(BigInteger)
    requests: Mapped[int] = mapped_column(BigInteger)


class Agent(Base):
    """A program that takes tasks; it is healthy while it sends heartbeats."""

    __tablename__ = "agents"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    registered: Mapped[float]
    heartbeat: Mapped[float]


class Task(Base):
    """A task: waiting (`taken` is None), assigned to an agent, or done (`ended` and `status` are set)."""

    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    input: Mapped[str] = mapped_column(Text)
    created: Mapped[float]
    agent: Mapped[str | None] = mapped_column(String(40), index=True)
    taken: Mapped[float | None]
    ended: Mapped[float | None] = mapped_column(index=True)
    status: Mapped[str | None] = mapped_column(String(16))
    result: Mapped[str | None] = mapped_column(Text)
