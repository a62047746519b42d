"""Small JSON bodies, read after authentication. FastAPI would read and check them before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from app.api.problems import ProblemError
from app.api.raw_bodies import read_bounded

if TYPE_CHECKING:
    from fastapi import Request

_Shape = TypeVar("_Shape", bound=BaseModel)

WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""JSON does not distinguish 2 from 2.0."""

MOST_BYTES = 64 * 1024
REFUSALS = {"_413": "The body is too large", "_415": "The Content-Type is not JSON", "_422": "The request is not valid"}


async def read(request: Request, shape: type[_Shape]) -> _Shape:
    """Return the body; ProblemError if it is not JSON of this shape."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(415, "not_json", "Content-Type must be application/json")  # a browser asks another origin first
    return parse(await read_bounded(request, MOST_BYTES), shape)


def parse(raw: bytes, shape: type[_Shape]) -> _Shape:
    """Return a body that was read; ProblemError if it is not JSON of this shape."""
    try:
        return shape.model_validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise ProblemError(422, "invalid", f"{place}: {first['msg']}") from error


def described(shape: type[BaseModel], most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Describe the body for OpenAPI."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"required": True, "description": f"At most {most_bytes} bytes", "content": content}}
