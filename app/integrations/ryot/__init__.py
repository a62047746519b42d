"""Ryot: language models behind one interface, the built-in stand-in or any OpenAI-compatible server. Independent of the web framework."""

from app.integrations.ryot.backend import Backend, Call
from app.integrations.ryot.errors import BackendTimeoutError, BadBackendError, RefusedError, RyotError, UnknownModelError

__all__ = ["Backend", "BackendTimeoutError", "BadBackendError", "Call", "RefusedError", "RyotError", "UnknownModelError"]
