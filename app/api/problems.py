"""Errors as RFC 9457 problem documents: one shape for all errors, with a fixed word for programs in ``reason``."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from app.store.errors import DatabaseFullError, StoreError

MEDIA_TYPE = "application/problem+json"
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


class Problem(BaseModel):
    """The error of one request."""

    type: str = "about:blank"
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="The error, for people")
    reason: str = Field(description="The error, as one fixed word")


class ProblemError(Exception):
    """Raised by a route to answer with a problem document."""

    def __init__(self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = headers


RETRY_SECONDS = 5
"""The cause may have gone by then."""


def of_store(error: StoreError) -> ProblemError:
    """Return the problem document of a database error."""
    full = isinstance(error, DatabaseFullError)
    return ProblemError(507 if full else 503, error.reason, str(error), None if full else {"Retry-After": str(RETRY_SECONDS)})


def responses(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of a route for OpenAPI: ``responses(_413="too large")``."""
    schema = Problem.model_json_schema()
    return {
        int(status.removeprefix("_")): {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, text in statuses.items()
    }


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem document."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(StoreError, _store)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, unexpected)


def answer(status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return the response for one problem."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    problem = Problem(title=title, status=status, detail=detail, reason=reason)
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return answer(error.status, error.reason, error.detail, error.headers)


async def _store(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    return await _problem(request, of_store(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in {204, 304}:
        return Response(status_code=error.status_code, headers=dict(error.headers or {}))
    reason = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request) or headers.get("Allow", "")
    return answer(error.status_code, reason, str(error.detail), headers)


def _allowed(request: Request) -> str:
    """Return the methods of all routes with this path: each route knows only its own."""
    routes = request.app.routes
    methods = (
        method for method in _METHODS if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for route in routes)
    )
    return ", ".join(methods)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    detail = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return answer(422, "invalid", detail)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # not read: the client closed the connection


UNEXPECTED = "an unexpected error; the log of the service has the cause"


async def unexpected(_request: Request, _error: Exception) -> Response:
    """Answer an exception without a handler; the server logs it."""
    return answer(500, "unexpected", UNEXPECTED)
