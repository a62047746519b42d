"""Costs are tokens times price to the last digit, on both databases."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from app.store import billing, keys
from app.store.billing import BilledCall
from app.store.database import Database
from app.store.models import Usage

if TYPE_CHECKING:
    from app.store.database_url import DatabaseLocation


def test_the_most_special_price_holds_from_then_on(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)

        async def cost(endpoint: str, model: str) -> Decimal:
            async with database.writing() as session:
                return await billing.bill(session, BilledCall(endpoint, model, 1, 10)) * 10**12

        async def price(endpoint: str, model: str, prompt: int, generated: int) -> int:
            async with database.writing() as session:
                row = await billing.set_price(session, endpoint, model, prompt, generated)
                return row.id

        assert await cost("/a", "m") == 0
        first = await price("*", "*", 1, 2)
        assert await price("*", "*", 3, 4) == first
        assert await cost("/a", "m") == 43
        await price("/a", "*", 100, 1000)
        assert await cost("/a", "m") == 10_100
        assert await cost("/b", "m") == 43
        await price("*", "m", 5, 6)
        assert await cost("/a", "m") == await cost("/b", "m") == 65
        special = await price("/a", "m", 7, 8)
        assert await cost("/a", "m") == 87
        assert await cost("/b", "m") == 65
        async with database.writing() as session:
            assert await billing.remove_price(session, special)
            assert not await billing.remove_price(session, special)
            assert len(await billing.prices(session)) == 3
        assert await cost("/a", "m") == 65
        await database.close()

    asyncio.run(work())


def test_sums_are_exact_beyond_what_a_column_or_a_float_holds(place: DatabaseLocation) -> None:
    chance = random.Random(1)

    async def work() -> None:
        database = Database(place)
        wanted: dict[str, Decimal] = {}
        async with database.writing() as session:
            _, key = await keys.create(session, "ann")
            for model in ("a", "b"):
                prompt, generated = (chance.randrange(10**9) for _ in range(2))
                await billing.set_price(session, "*", model, prompt, generated)
                for _ in range(20):
                    call = BilledCall("/a", model, chance.randrange(10**9), chance.randrange(10**9), key.user_id, key.id)
                    cost = Decimal(call.prompt_tokens * prompt + call.generated_tokens * generated).scaleb(-12)
                    assert await billing.bill(session, call) == cost
                    wanted[model] = wanted.get(model, Decimal(0)) + cost
            await billing.bill(session, BilledCall("/a", "free", 1, 1))
        async with database.reading() as session:
            found = await billing.totals(session, 0, 1e11)
            assert await billing.totals(session, 0, 1) == []
            assert await session.scalar(select(func.count()).select_from(Usage)) == 41
        assert {total.model: total.cost for total in found} == wanted | {"free": 0}
        assert {total.model: (total.user, total.calls) for total in found} == {"a": ("ann", 20), "b": ("ann", 20), "free": (None, 1)}
        assert sum(wanted.values()) * 10**12 > 2**63
        await database.close()

    asyncio.run(work())


def test_a_call_that_is_undone_costs_nothing(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what is raised inside is the point
            async with database.writing() as session:
                await billing.bill(session, BilledCall("/a", "m", 1, 1))
                raise ZeroDivisionError
        async with database.reading() as session:
            assert await billing.totals(session, 0, 1e11) == []
        await database.close()

    asyncio.run(work())


def test_a_price_that_many_set_and_remove_at_once_is_there_once_or_not(place: DatabaseLocation) -> None:
    async def work() -> None:
        database = Database(place)

        async def change() -> None:
            async with database.writing() as session:
                number = (await billing.set_price(session, "/a", "m", 1, 2)).id
            async with database.writing() as session:
                await billing.remove_price(session, number)

        for _ in range(10):
            await asyncio.gather(*(change() for _ in range(5)))
            async with database.reading() as session:
                assert await billing.prices(session) == []
        await database.close()

    asyncio.run(work())
