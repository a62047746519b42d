"""What can go wrong with a call of a model, each with the status and the words of OpenAI's errors."""

from __future__ import annotations


class RyotError(Exception):
    """A call that has no answer. The text is for people; `status`, `kind`, `param` and `code` are OpenAI's."""

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
        """Keep what the error document, and the headers beside it, will say; the class's own status and code where none is given."""
        super().__init__(message)
        self.headers = headers
        self.param = param
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code


class RefusedError(RyotError):
    """A call that asks for what cannot be done: the caller's to mend."""

    status = 400
    kind = "invalid_request_error"


class UnknownModelError(RefusedError):
    """A model that the backend does not list."""

    status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        """Name the model as the caller did, cut where it is long."""
        super().__init__(f"the model {model[:100]!r} does not exist; GET /v1/models lists those that do", param="model")


class BadBackendError(RyotError):
    """The backend is dead, failed, or said what is no answer."""

    status = 502
    code = "bad_backend"


class BackendTimeoutError(RyotError):
    """The backend did not answer within the deadline."""

    status = 504
    code = "backend_timeout"


class RestingError(RyotError):
    """The backend has failed too often, and is not asked for a while."""

    status = 503
    code = "circuit_open"
