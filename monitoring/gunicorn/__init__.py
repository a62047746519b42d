"""Gunicorn: the hooks of a configuration file, and the worker class `monitoring.gunicorn.Worker`."""

from .hooks import Worker

__all__ = ["Worker"]
