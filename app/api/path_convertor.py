"""Starlette's convertor `path` as its name says: the rest of a path, whatever it is.

Its own stops at line breaks, so that an object or a model whose name has one would be no route's. Imported before any route is declared.
"""

from starlette.convertors import PathConvertor, register_url_convertor


class AnyPathConvertor(PathConvertor):
    """As `path`, and with line breaks."""

    regex = "(?s:.*)"


register_url_convertor("path", AnyPathConvertor())
