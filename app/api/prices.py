"""Prices and the usage report over HTTP, for admins."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app import store
from app.api import json_bodies
from app.api.problems import ProblemError, responses

if TYPE_CHECKING:
    from app.store.database import Database
    from app.store.models import Price

router = APIRouter(prefix="/v1", tags=["billing"])

_LARGEST = 2**31 - 1
_ENDPOINT = r"^(\*|/[A-Za-z0-9/_-]{1,63})$"
_AMOUNT = r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,6})?$"
_FAR = 32_503_680_000.0

Number = Annotated[int, Path(ge=1, le=_LARGEST)]
Moment = Annotated[float, Query(ge=0, le=_FAR, allow_inf_nan=False)]
Amount = Annotated[str, Field(pattern=_AMOUNT, description="Dollars for a million tokens, less than 1000, as a string: decimals are exact")]


class NewPrice(BaseModel):
    """The new price of tokens."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = Field(default="*", pattern=_ENDPOINT, description="A route such as /v1/completions; * means all")
    model: str = Field(default="*", min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$", description="* means all")
    prompt: Amount
    generated: Amount


class ShownPrice(BaseModel):
    """A price, in dollars for a million tokens."""

    id: int
    endpoint: str
    model: str
    prompt: str
    generated: str


class Prices(BaseModel):
    """All prices."""

    prices: list[ShownPrice]


class Total(BaseModel):
    """The tokens that one user has used of one model at one endpoint."""

    user: str | None = Field(description="None for calls without a user's key")
    endpoint: str
    model: str
    calls: int
    prompt_tokens: int
    generated_tokens: int
    cost: str = Field(description="Dollars")


class Totals(BaseModel):
    """The billed usage."""

    usage: list[Total]


@router.put(
    "/prices",
    openapi_extra=json_bodies.described(NewPrice),
    responses=responses(**json_bodies.REFUSALS, _503="The database is unavailable", _507="The database is full"),
)
async def put(request: Request) -> ShownPrice:
    """Set the price of a model at an endpoint. A price of the model precedes one of the endpoint, and both precede `*`."""
    wanted = await json_bodies.read(request, NewPrice)
    async with _database(request).writing() as session:
        row = await store.billing.set_price(session, wanted.endpoint, wanted.model, _stored(wanted.prompt), _stored(wanted.generated))
        return _shown(row)


@router.get("/prices", responses=responses(_503="The database is unavailable"))
async def prices(request: Request) -> Prices:
    """List the prices."""
    async with _database(request).reading() as session:
        return Prices(prices=[_shown(row) for row in await store.billing.prices(session)])


@router.delete(
    "/prices/{number}",
    status_code=204,
    response_class=Response,
    responses=responses(
        _404="There is no such price", _422="The number is not valid", _503="The database is unavailable", _507="The database is full"
    ),
)
async def delete(request: Request, number: Number) -> Response:
    """Remove a price. The next more general price applies, or 0 if there is none."""
    async with _database(request).writing() as session:
        if not await store.billing.remove_price(session, number):
            raise ProblemError(404, "unknown_price", f"there is no price {number}")
    return Response(status_code=204)


@router.get("/usage", responses=responses(_422="The request is not valid", _503="The database is unavailable"))
async def usage(request: Request, since: Moment = 0, until: Moment = _FAR) -> Totals:
    """Return the billed usage from `since` until before `until`, in seconds since 1970."""
    async with _database(request).reading() as session:
        found = await store.billing.totals(session, since, until)
    return Totals(usage=[Total(**{**vars(total), "cost": f"{total.cost:f}"}) for total in found])


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _stored(amount: str) -> int:
    """Convert a price to whole 10⁻¹² dollars for one token: dollars for a million tokens have at most six decimals."""
    return int(Decimal(amount).scaleb(6))


def _shown(row: Price) -> ShownPrice:
    prompt, generated = (f"{Decimal(price).scaleb(-6).normalize():f}" for price in (row.prompt, row.generated))
    return ShownPrice(id=row.id, endpoint=row.endpoint, model=row.model, prompt=prompt, generated=generated)
