"""One router per integration."""

from app.api import paths  # noqa: F401 - before the first route
