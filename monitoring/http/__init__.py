"""The six HTTP families of the catalogue, moved by a pure ASGI middleware.

`exchange`, `request_metrics` and `route_template` run for every request: they are compiled where there
is a C compiler (hatch_build.py), and are the same interpreted.
"""

from importlib.util import find_spec


def compiled() -> bool:
    """Whether what runs for every request is machine code here. Imports nothing."""
    found = find_spec(f"{__name__}.exchange")
    return found is not None and found.origin is not None and not found.origin.endswith(".py")
