"""The fields of OpenAI's request bodies that this service reads. All other fields pass to the backend unchanged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from app.integrations.ryot import RefusedError


def _whole(value: object) -> object:
    """Accept 2.0 as 2: JSON does not distinguish them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_whole)
_FIRST = Field(fail_fast=True)
"""Stop at the first error: one error for each of a million items would block the worker for seconds."""

_Tokens = Annotated[list[Annotated[int, Field(ge=0, le=2**31), _WHOLE]], _FIRST, Field(min_length=1)]
_Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = None


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    model: str = Field(min_length=1, max_length=512, description="One of GET /v1/models")
    max_tokens: Annotated[int, Field(ge=0, le=10_000_000), _WHOLE] | None = None
    n: Annotated[int, Field(ge=1, le=128), _WHOLE] | None = Field(default=None, description="Choices for each prompt")
    seed: Annotated[int, _WHOLE] | None = None
    stop: _Stop | Annotated[list[_Stop], _FIRST, Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)


class CompletionBody(_Body):
    """The body of POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[str], _FIRST, Field(min_length=1, max_length=2048)]
        | _Tokens
        | Annotated[list[_Tokens], _FIRST, Field(min_length=1, max_length=2048)]
    ) = Field(description="One prompt or a batch, as text or as token numbers")


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[dict[str, Any]], _FIRST] | None = None


class ChatBody(_Body):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], _FIRST, Field(min_length=1, max_length=8192)]
    max_completion_tokens: Annotated[int, Field(ge=0, le=10_000_000), _WHOLE] | None = None


def parse(raw: bytes, shape: type[_Body]) -> dict[str, Any]:
    """Return the body with all its fields, or raise RefusedError if it does not have this shape."""
    try:
        given = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedError(f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise RefusedError("the body is not a JSON object")
    try:
        valid = shape.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RefusedError(f"{place}: {first['msg']}", param=str(first["loc"][0]) if first["loc"] else None) from None
    return valid.model_dump(exclude_unset=True)


def schema(shape: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a shape with all references inlined, as OpenAPI needs it inside a path."""
    whole = shape.model_json_schema()
    parts = whole.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inline(parts[node["$ref"].rpartition("/")[2]])
            return {key: inline(value) for key, value in node.items()}
        return [inline(each) for each in node] if isinstance(node, list) else node

    found: dict[str, Any] = inline(whole)
    return found
