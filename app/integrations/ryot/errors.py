"""Errors of model calls, each with the status and the fields of OpenAI's errors."""

from __future__ import annotations


class RyotError(Exception):
    """A failed call. `status`, `kind`, `param` and `code` have the meaning that OpenAI gives them."""

    status = 502
    kind = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Store the fields of the error document and its headers. Status and code default to those of the class."""
        super().__init__(message)
        self.headers = headers
        self.param = param
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code


class RefusedError(RyotError):
    """A call that the caller must correct."""

    status = 400
    kind = "invalid_request_error"


class UnknownModelError(RefusedError):
    """A model that the backend does not list."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        """Name the model, shortened if it is long."""
        super().__init__(f"the model {model[:100]!r} does not exist; GET /v1/models lists those that do", param="model")


class BadBackendError(RyotError):
    """The backend is unreachable, failed, or sent a malformed answer."""

    code = "bad_backend"


class BackendTimeoutError(RyotError):
    """The backend did not answer within the deadline."""

    status = 504
    code = "backend_timeout"


class RestingError(RyotError):
    """The circuit breaker is open: the backend has failed too often."""

    status = 503
    code = "circuit_open"
