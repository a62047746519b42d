"""Prices and costs of calls of models, in whole 10⁻¹² dollars, so that a cost is exactly tokens times price."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from app.store.models import Price, Usage, User

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

EVERY = "*"
_SPLIT = 10**6
"""SQLite cannot add beyond 2⁶³ (9 million dollars), so that millions and the rest are added separately."""


@dataclass(frozen=True)
class BilledCall:
    """The tokens of one call, and its caller."""

    endpoint: str
    model: str
    prompt_tokens: int
    generated_tokens: int
    user: int | None = None
    key: int | None = None


@dataclass(frozen=True)
class Total:
    """The usage of one model at one endpoint by one user; costs in dollars."""

    user: str | None
    endpoint: str
    model: str
    calls: int
    prompt_tokens: int
    generated_tokens: int
    cost: Decimal


async def bill(session: AsyncSession, call: BilledCall) -> Decimal:
    """Add one call at the present price, or 0 if none is set; return its cost in dollars."""
    price = await session.scalar(_of(call.endpoint, call.model))
    cost = 0 if price is None else call.prompt_tokens * price.prompt + call.generated_tokens * price.generated
    session.add(
        Usage(
            user_id=call.user,
            key_id=call.key,
            endpoint=call.endpoint,
            model=call.model,
            prompt_tokens=call.prompt_tokens,
            generated_tokens=call.generated_tokens,
            cost=cost,
            created=time.time(),
        )
    )
    return dollars(cost)


async def set_price(session: AsyncSession, endpoint: str, model: str, prompt: int, generated: int) -> Price:
    """Set the price of a token from now on. Earlier bills do not change."""
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    setting = insert(Price).values(endpoint=endpoint, model=model, prompt=prompt, generated=generated)
    # One statement, since other transactions may set or remove the same price concurrently.
    setting = setting.on_conflict_do_update(index_elements=["endpoint", "model"], set_={"prompt": prompt, "generated": generated})
    found = await session.scalars(setting.returning(Price), execution_options={"populate_existing": True})
    price: Price = found.one()
    return price


async def prices(session: AsyncSession) -> list[Price]:
    """Return all prices."""
    return list(await session.scalars(select(Price).order_by(Price.endpoint, Price.model)))


async def remove_price(session: AsyncSession, number: int) -> bool:
    """Remove a price; return whether there was one."""
    found = await session.execute(delete(Price).where(Price.id == number).returning(Price.id))
    return found.first() is not None


async def totals(session: AsyncSession, since: float, until: float) -> list[Total]:
    """Return the billed usage in [since, until), by user, endpoint and model."""
    groups = (User.name, Usage.endpoint, Usage.model)
    sums = (
        func.count(),
        func.sum(Usage.prompt_tokens),
        func.sum(Usage.generated_tokens),
        func.sum(Usage.cost // _SPLIT),
        func.sum(Usage.cost % _SPLIT),
    )
    asked = select(*groups, *sums).select_from(Usage).outerjoin(User).where(Usage.created >= since, Usage.created < until)
    rows = await session.execute(asked.group_by(*groups).order_by(*groups))
    return [
        Total(user, endpoint, model, calls, int(prompt), int(generated), dollars(int(millions) * _SPLIT + int(rest)))
        for user, endpoint, model, calls, prompt, generated, millions, rest in rows
    ]


def dollars(cost: int) -> Decimal:
    """Convert 10⁻¹² dollars to dollars."""
    return Decimal(cost).scaleb(-12)


def _of(endpoint: str, model: str) -> Select[Price]:
    """Select the price of a call: of the model at this endpoint, the model at any, the endpoint, or the general one."""
    order = case((Price.model == model, 0), else_=2) + case((Price.endpoint == endpoint, 0), else_=1)
    return select(Price).where(Price.endpoint.in_((endpoint, EVERY)), Price.model.in_((model, EVERY))).order_by(order).limit(1)
