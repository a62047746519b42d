"""OpenAPI descriptions of the routes in OpenAI's format. FastAPI cannot derive them: these routes parse their own bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.api.ryot_bodies import schema

if TYPE_CHECKING:
    from pydantic import BaseModel

    Responses = dict[int | str, dict[str, Any]]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MODEL = {"type": "object", "required": ["id", "object"], "properties": {"id": {"type": "string"}, "object": {"const": "model"}}}
_LIST = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_ANSWER = {
    "type": "object",
    "required": ["choices"],
    "properties": {"choices": {"type": "array", "items": {"type": "object"}}, "usage": {"type": ["object", "null"]}},
}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_BACKEND: Responses = {
    502: _json("The backend is unreachable, failed, or sent a malformed answer", _ERROR),
    504: _json("The backend is too slow", _ERROR),
}

KEYS: Responses = {
    401: _json("There is no API key in the request, or it is wrong, expired or revoked", _ERROR),
    503: _json("The database is away", _ERROR),
}
MODELS: Responses = {200: _json("The models", _LIST), **_BACKEND}
MODEL: Responses = {200: _json("The model", _MODEL), 404: _json("No such model", _ERROR), **_BACKEND}
ANSWERS: Responses = {
    200: {
        "description": "The answer; with `stream`, a chunk of it in each event, and at last `[DONE]`",
        "content": {"application/json": {"schema": _ANSWER}, "text/event-stream": {"schema": {"type": "string"}}},
    },
    400: _json("The body is not JSON, or asks for an unsupported feature", _ERROR),
    404: _json("No such model", _ERROR),
    413: _json("The body is larger than the bound", _ERROR),
    422: _json("The backend refuses the call", _ERROR),
    429: _json("The backend has no room for the call", _ERROR),
    **_BACKEND,
}


def body(shape: type[BaseModel]) -> dict[str, Any]:
    """Describe a request's body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema(shape)}}}}
