"""GPUs, read once per instance by one elected process, off every event loop."""

from .watch import watching

__all__ = ["watching"]
