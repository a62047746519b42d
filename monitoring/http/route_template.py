"""Finds the endpoint label of a request: the full template of the route that Starlette or FastAPI chose, or one of two constants.

It promises: never a raw path, never an exception, and for plain and included routes a cost that does not grow with their number. The
scope usually holds the template. Otherwise, as under mounts, the routes are searched, and the result is cached.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    _Key = tuple[str | bytes, ...]

UNMATCHED = "_unmatched"
"""No route: a 404, or a response from a middleware before routing."""

REDIRECT = "_redirect"
"""No route, and a redirect: a missing or superfluous slash, or http in place of https."""

_log = logging.getLogger(__name__)
_MOST_KEPT = 1024
_LONGEST_KEPT = 512
_MISSING = object()


class Templates:
    """Finds templates, and caches those that needed a search."""

    def __init__(self) -> None:
        self._prefixes: dict[_Key, str | None] = {}
        self._leaves: dict[_Key, str | None] = {}

    def find(self, scope: MutableMapping[str, Any], status: int) -> str:
        """Return the endpoint of a routed request. The status of its response distinguishes the constants."""
        try:
            if "app_root_path" not in scope and (route := scope.get("route")) is not None:
                # A route of the application or of an included router: by far the most common.
                if "fastapi" in scope:
                    route = _included(scope, route)
                if (path := getattr(route, "path", None)) and path.__class__ is str:
                    return path
            template = self._find(scope)
        except Exception:  # noqa: BLE001 - logged; a label must never fail a request
            _log.exception("finding the route of a request failed; it is counted as endpoint %s", UNMATCHED)
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
        # Without a prefix: a mounted application changed root_path, and only its own template is known.
        return leaf if prefix is None else prefix + leaf


def _keep(kept: dict[_Key, str | None], key: _Key, search: Any) -> str | None:
    found: Any = kept.get(key, _MISSING)
    if found is _MISSING:
        found = search()
        if sum(map(len, key)) > _LONGEST_KEPT:
            # A client chose this path, and it is unlikely to be requested again.
            return found  # type: ignore[no-any-return]
        if len(kept) >= _MOST_KEPT:
            # Prefixes or paths with parameters: start again rather than grow.
            kept.clear()
        kept[key] = found
    return found  # type: ignore[no-any-return]


def _included(scope: MutableMapping[str, Any], route: Any) -> Any:
    """Return the object with the template of a route that FastAPI may have included with a prefix."""
    fastapi = scope["fastapi"]
    context = fastapi.get("effective_route_context") if fastapi else None
    return route if context is None else context if context.original_route is route else None


def _host(scope: MutableMapping[str, Any]) -> bytes:
    """Return the host header: routers may choose by it."""
    for name, value in scope["headers"]:
        if name == b"host" and isinstance(value, bytes):
            return value
    return b""


def _leaf(scope: MutableMapping[str, Any], *, mounted: bool) -> str | None:
    """Return the template of the innermost route without its mounts, or None if the scope does not have it."""
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
    """FastAPI's `frontend()` chooses no route: everything below it is one endpoint."""
    fastapi = scope.get("fastapi") or {}
    return "/{frontend}" if "frontend_path" in fastapi else None


def _routes(scope: MutableMapping[str, Any]) -> Iterable[Any]:
    """Return the routes of the outermost router."""
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
    """Yield each route of a router, those of routers that FastAPI included with their prefixes."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            for context in contexts():
                yield context.starlette_route or context


def _walk(routes: Iterable[Any], probe: dict[str, Any]) -> str | None:
    """Choose a route as the router does, and return its full template."""
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
        # An application that is not a router: static files, another framework.
        return _path(route) or "/"
    found = _walk(inner, probe)
    return None if found is None else _path(route) + found


def _prefix(routes: Iterable[Any], probe: dict[str, Any], root: str) -> str | None:
    """Return the templates of the mounts that lead to `root`."""
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
