"""Replaces Starlette's convertor `path` with one that takes the whole rest of a path.

Starlette's own stops at line breaks, so that no route would match an object or a model with one in its name. Import this module before any
route is declared.
"""

from starlette.convertors import PathConvertor, register_url_convertor


class AnyPathConvertor(PathConvertor):
    """As `path`, but with line breaks."""

    regex = "(?s:.*)"


register_url_convertor("path", AnyPathConvertor())
