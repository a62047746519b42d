"""Ryot: language models behind one interface, the built-in stand-in or any OpenAI-compatible server. Nothing here knows HTTP servers."""

from app.integrations.ryot.backend import Backend, Call
from app.integrations.ryot.errors import BackendTimeoutError, BadBackendError, RefusedError, RyotError, UnknownModelError

__all__ = ["Backend", "BackendTimeoutError", "BadBackendError", "Call", "RefusedError", "RyotError", "UnknownModelError"]
