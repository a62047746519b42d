"""Random trees of routers, mounts and applications: the label is the template of the route that really answered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router

from monitoring.http.middleware import MetricsMiddleware
from monitoring.http.route_template import REDIRECT, UNMATCHED
from tests.asgi_driver import counted, drive, forget, scope

METHODS = ["GET", "POST", "DELETE"]
# Few segments, so that routes shadow one another; a parameter matches what a word does.
SEGMENTS = st.sampled_from(["/a", "/b", "/{p}", "/a/b", "/{p}/b"])


@dataclass
class Node:
    """A route, or something that holds routes below a prefix."""

    kind: str
    path: str
    method: str = "GET"
    children: list[Node] = field(default_factory=list)


LEAVES = st.builds(Node, st.just("route"), st.sampled_from(["/a", "/b", "/{q}", "/a/{q}", "/{q}/b", "/c/{q}"]), st.sampled_from(METHODS))


def holders(kinds: list[str], children: st.SearchStrategy[list[Node]]) -> st.SearchStrategy[Node]:
    return st.builds(Node, st.sampled_from(kinds), SEGMENTS, st.just("GET"), children)


KINDS = ["include", "fastapi", "starlette", "router"]
TREES = st.recursive(st.lists(LEAVES, min_size=1, max_size=3), lambda inner: st.lists(st.one_of(LEAVES, holders(KINDS, inner)), max_size=4))


class Answers:
    """The templates in the order in which they were built: the plain walk."""

    def __init__(self) -> None:
        self.templates: list[str] = []

    def route(self, template: str) -> Any:
        self.templates.append(template)

        async def answer(_request: Any) -> Response:
            return PlainTextResponse(template)

        return answer

    def fastapi_route(self, template: str) -> Any:
        self.templates.append(template)
        return lambda: PlainTextResponse(template)

    def into_fastapi(self, target: Any, nodes: list[Node], prefix: str, used: frozenset[str]) -> Any:
        for number, node in enumerate(nodes):
            path = unique(node.path, used, number)
            below = used | set(re.findall(r"{(\w+)}", path))
            whole = prefix + path
            if node.kind == "route":
                target.add_api_route(path, self.fastapi_route(whole), methods=[node.method])
            elif node.kind == "include":
                target.include_router(self.into_fastapi(APIRouter(), node.children, whole, below), prefix=path)
            else:
                target.mount(path, self.application(node, whole, below))
        return target

    def application(self, node: Node, whole: str, used: frozenset[str]) -> Any:
        if node.kind == "fastapi":
            app = FastAPI(openapi_url=None)
            return self.into_fastapi(app, node.children, whole, used)
        routes = self.plain(node.children, whole, used)
        return Starlette(routes=routes) if node.kind == "starlette" else Router(routes)

    def plain(self, nodes: list[Node], prefix: str, used: frozenset[str]) -> list[Any]:
        routes: list[Any] = []
        for number, node in enumerate(nodes):
            path = unique(node.path, used, number)
            below = used | set(re.findall(r"{(\w+)}", path))
            if node.kind == "route":
                routes.append(Route(path, self.route(prefix + path), methods=[node.method]))
            elif node.kind == "include":
                routes.append(Mount(path, routes=self.plain(node.children, prefix + path, below)))
            else:
                routes.append(Mount(path, self.application(node, prefix + path, below)))
        return routes


def unique(path: str, used: frozenset[str], number: int) -> str:
    """Give each parameter of a branch a name of its own, which routers insist on."""
    return re.sub(r"{(\w+)}", lambda found: f"{{{found[1]}{len(used)}_{number}}}", path)


PATHS = st.lists(st.sampled_from(["a", "b", "c", "secret"]), min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


@settings(max_examples=150, deadline=None)
@given(TREES, st.lists(st.tuples(PATHS, st.sampled_from([*METHODS, "HEAD"]), st.booleans()), min_size=1, max_size=6), st.data())
def test_the_label_is_the_template_of_the_route_that_answered(nodes: list[Node], asked: list[tuple[str, str, bool]], data: Any) -> None:
    answers = Answers()
    app = MetricsMiddleware(answers.into_fastapi(FastAPI(openapi_url=None), nodes, "", frozenset()))
    if answers.templates:
        for template in data.draw(st.lists(st.sampled_from(answers.templates), min_size=1, max_size=6)):
            concrete = re.sub(r"{\w+}", lambda _: data.draw(st.sampled_from(["a", "b", "secret"])), template)
            asked.append((concrete, data.draw(st.sampled_from(METHODS)), data.draw(st.integers(0, 4)) == 0))
    for path, method, slash in asked:
        forget()
        app.forget()
        app.answers.methods.clear()
        exchange = drive(app, scope(method, path + "/" * slash))
        assert exchange.raised is None
        ((_, endpoint, status),) = counted()
        assert int(status) == exchange.status
        if status == "200":
            if method != "HEAD":
                assert endpoint == exchange.content.decode()
            assert endpoint in answers.templates
        elif status == "405":
            matching = [each for each in answers.templates if re.fullmatch(re.sub(r"{\w+}", "[^/]+", each), path + "/" * slash)]
            assert endpoint in matching
        else:
            assert (endpoint, status) in {(UNMATCHED, "404"), (REDIRECT, "307")}
