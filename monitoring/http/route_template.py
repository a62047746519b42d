"""The endpoint label of a request: the full template of the route that Starlette or FastAPI chose, or one of two constants.

Promises: never a raw path, never an exception, and for plain and included routes a cost that does not grow with their number.
What a router left in the scope is read first; routes are walked only where that does not tell, as under mounts, and the answer is kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    _Key = tuple[str | bytes, ...]

UNMATCHED = "_unmatched"
"""No route: a 404, or an answer of a middleware that came before routing."""

REDIRECT = "_redirect"
"""No route, and the answer sends elsewhere: a missing or superfluous slash, http instead of https."""

_log = logging.getLogger(__name__)
_MOST_KEPT = 1024
_LONGEST_KEPT = 512
_MISSING = object()


class Templates:
    """Finds templates, and keeps those that had to be searched for."""

    def __init__(self) -> None:
        self._prefixes: dict[_Key, str | None] = {}
        self._leaves: dict[_Key, str | None] = {}

    def find(self, scope: MutableMapping[str, Any], status: int) -> str:
        """Name the endpoint of a request whose routing is over, given the answer's status."""
        try:
            if "app_root_path" not in scope and (route := scope.get("route")) is not None:
                # A route of the application itself or of an included router: by far the most common.
                if "fastapi" in scope:
                    route = _included(scope, route)
                if (path := getattr(route, "path", None)) and path.__class__ is str:
                    return path
            template = self._find(scope)
        except Exception:  # noqa: BLE001 - logged; a label must never cost a request
            _log.exception("cannot tell the route of a request; it is counted as endpoint %s", UNMATCHED)
            return UNMATCHED
        if template is None:
            return REDIRECT if 300 <= status < 400 and status != 304 else UNMATCHED
        return template

    def _find(self, scope: MutableMapping[str, Any]) -> str | None:
        mounted = "app_root_path" in scope
        leaf = _leaf(scope, mounted=mounted)
        if leaf is not None and not mounted:
            return leaf
        if leaf is None:
            if scope.get("endpoint") is None or hasattr(scope["endpoint"], "routes"):
                # Nothing matched, or a mounted router in which nothing matched.
                return _frontend(scope)
            key = (scope.get("root_path", ""), _host(scope), scope["path"], scope["method"])
            return _keep(self._leaves, key, lambda: _walk(_routes(scope), _probe(scope)))
        root = scope.get("root_path", "")
        prefix = _keep(self._prefixes, (root, _host(scope)), lambda: _prefix(_routes(scope), _probe(scope), root))
        # Without one, a mounted application changed root_path by itself: its own template is all that can be known.
        return leaf if prefix is None else prefix + leaf


def _keep(kept: dict[_Key, str | None], key: _Key, search: Any) -> str | None:
    found: Any = kept.get(key, _MISSING)
    if found is _MISSING:
        found = search()
        if sum(map(len, key)) > _LONGEST_KEPT:
            # A client chose it; nobody asks for it a second time.
            return found  # type: ignore[no-any-return]
        if len(kept) >= _MOST_KEPT:
            # Prefixes or paths with parameters: begin anew rather than grow.
            kept.clear()
        kept[key] = found
    return found  # type: ignore[no-any-return]


def _included(scope: MutableMapping[str, Any], route: Any) -> Any:
    """Give what has the template of a route that FastAPI may have included with a prefix."""
    fastapi = scope["fastapi"]
    context = fastapi.get("effective_route_context") if fastapi else None
    return route if context is None else context if context.original_route is route else None


def _host(scope: MutableMapping[str, Any]) -> bytes:
    """Give the host that the client asked for: routers may choose by it."""
    for name, value in scope["headers"]:
        if name == b"host" and isinstance(value, bytes):
            return value
    return b""


def _leaf(scope: MutableMapping[str, Any], *, mounted: bool) -> str | None:
    """Read the innermost route's own template off the scope, whole but for mounts; None where the scope does not tell."""
    route = scope.get("route")
    fastapi = scope.get("fastapi")
    context = fastapi.get("effective_route_context") if fastapi else None
    if context is not None:
        if context.original_route is route:
            path = context.path
            return path if path and isinstance(path, str) else None
        # FastAPI leaves the context of an included mount in place while the mounted application chooses a route of its own.
        if route is None or hasattr(route, "routes"):
            route = context.starlette_route or context
    if route is None or (mounted and hasattr(route, "routes")):
        return None
    path = getattr(route, "path", None)
    return path if path and isinstance(path, str) else None


def _frontend(scope: MutableMapping[str, Any]) -> str | None:
    """FastAPI's `frontend()` chooses no route: what lies below it is one endpoint."""
    fastapi = scope.get("fastapi") or {}
    return "/{frontend}" if "frontend_path" in fastapi else None


def _routes(scope: MutableMapping[str, Any]) -> Iterable[Any]:
    """Give the routes of the outermost router."""
    return getattr(scope.get("router"), "routes", ())


def _probe(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    """Build the scope as the outermost router saw it: mounts changed its root_path."""
    root = scope.get("app_root_path", scope.get("root_path", ""))
    return {
        "type": "http",
        "method": scope["method"],
        "path": scope["path"],
        "root_path": root,
        "headers": scope.get("headers", []),
        "path_params": {},
    }


def _effective(routes: Iterable[Any]) -> Iterable[Any]:
    """Give each route as it stands in its router: FastAPI's included routers unfolded, with their prefixes."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            for context in contexts():
                yield context.starlette_route or context


def _walk(routes: Iterable[Any], probe: dict[str, Any]) -> str | None:
    """Choose a route as the router does, and give its full template."""
    partial = None
    for route in _effective(routes):
        match, child = route.matches(probe)
        if match.name == "FULL":
            return _inside(route, {**probe, **child})
        if match.name == "PARTIAL" and partial is None:
            partial = _path(route)
    return partial


def _inside(route: Any, probe: dict[str, Any]) -> str | None:
    if not hasattr(route, "routes"):
        return _path(route)
    inner = route.routes
    if not inner:
        # An application that is no router: static files, another framework.
        return _path(route) or "/"
    found = _walk(inner, probe)
    return None if found is None else _path(route) + found


def _prefix(routes: Iterable[Any], probe: dict[str, Any], root: str) -> str | None:
    """Give the templates of the mounts that lead to `root`."""
    found = ""
    while probe["root_path"] != root:
        for route in _effective(routes):
            if hasattr(route, "routes"):
                match, child = route.matches(probe)
                if match.name == "FULL":
                    found += _path(route)
                    probe = {**probe, **child}
                    routes = route.routes
                    break
        else:
            return None
    return found


def _path(route: Any) -> str:
    return getattr(route, "path", "")
