"""A pure ASGI middleware for the six HTTP families of the catalogue.

`exchange`, `request_metrics` and `route_template` run for every request. hatch_build.py compiles them if there is a C compiler;
interpreted they do the same.
"""

from importlib.util import find_spec


def compiled() -> bool:
    """Whether the modules that run for every request are compiled here. Imports none of them."""
    found = find_spec(f"{__name__}.exchange")
    return found is not None and found.origin is not None and not found.origin.endswith(".py")
