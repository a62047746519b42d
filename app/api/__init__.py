"""One router per integration."""

from . import path_convertor  # noqa: F401 - before the first route
