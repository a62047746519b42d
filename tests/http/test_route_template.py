"""The endpoint label under real applications: the whole template of the route that answered, and never a raw path."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from monitoring.http.middleware import MetricsMiddleware
from monitoring.http.route_template import REDIRECT, UNMATCHED, Templates
from tests.asgi_driver import body, counted, drive, forget, scope, start

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from tests.asgi_driver import App


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    forget()


async def ok(_: Request) -> Response:
    return PlainTextResponse("ok")


async def opaque(_scope: Any, _receive: Any, send: Any) -> None:
    """An application without routes."""
    await send(start())
    await send(body(b"ok"))


def seen(app: App, method: str, path: str, host: str = "testserver", **more: Any) -> tuple[str, int]:
    """Give the endpoint and the status under which one request was counted."""
    forget()
    request = scope(method, path, **more)
    request["headers"] = [(b"host", host.encode())]
    exchange = drive(MetricsMiddleware(app), request)
    ((_, endpoint, status),) = counted()
    assert exchange.sent[0]["status"] == int(status)
    return endpoint, int(status)


def nested() -> FastAPI:
    """Routers in routers, mounts, and applications of both frameworks inside one another."""
    app = FastAPI()
    app.get("/")(lambda: "home")
    app.get("/items/{item}")(lambda item: item)
    app.post("/items")(lambda: "made")

    leaf = APIRouter(prefix="/leaf")
    leaf.get("/{a}")(lambda a: a)
    leaf.get("")(lambda: "no slash")
    leaf.put("/{a}/put")(lambda a: a)
    middle = APIRouter(prefix="/middle/{m}")
    middle.include_router(leaf, prefix="/in")
    middle.include_router(leaf, prefix="/again")
    app.include_router(middle, prefix="/top")
    app.include_router(leaf)

    sub = FastAPI()
    sub.get("/users/{user}")(lambda user: user)
    sub.include_router(leaf, prefix="/v{version}")
    deep = FastAPI()
    deep.get("/bottom/{b}")(lambda b: b)
    sub.mount("/deep/{d}", deep)
    app.mount("/sub", sub)

    plain = Starlette(routes=[Route("/p/{x:int}", ok), Mount("/m/{y}", routes=[Route("/q/{z:path}", ok)]), Route("/", ok)])
    app.mount("/plain/{tenant}", plain)
    app.mount("/router", Router([Route("/r", ok, methods=["POST"]), Mount("/rr", Router([Route("/s/{t}", ok)]))]))
    app.mount("/opaque/{o}", opaque)
    app.mount("/wrapped", GoneThrough(sub))
    app.router.routes.append(Route("/raw/{w}", ok, methods=["GET"]))
    return app


class GoneThrough:
    """A middleware by hand around a mounted application: it hides that the application has routes."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, given: Any, receive: Any, send: Any) -> None:
        await self.app(given, receive, send)


NESTED = [
    ("GET", "/", "/", 200),
    ("GET", "/items/7", "/items/{item}", 200),
    ("HEAD", "/items/7", "/items/{item}", 405),
    ("DELETE", "/items/7", "/items/{item}", 405),
    ("GET", "/items", "/items", 405),
    ("GET", "/top/middle/1/in/leaf/2", "/top/middle/{m}/in/leaf/{a}", 200),
    ("GET", "/top/middle/1/again/leaf/2", "/top/middle/{m}/again/leaf/{a}", 200),
    ("GET", "/top/middle/1/in/leaf", "/top/middle/{m}/in/leaf", 200),
    ("PUT", "/top/middle/1/in/leaf/2/put", "/top/middle/{m}/in/leaf/{a}/put", 200),
    ("GET", "/top/middle/1/in/leaf/2/put", "/top/middle/{m}/in/leaf/{a}/put", 405),
    ("GET", "/leaf/2", "/leaf/{a}", 200),
    ("POST", "/leaf/2", "/leaf/{a}", 405),
    ("GET", "/sub/users/9", "/sub/users/{user}", 200),
    ("POST", "/sub/users/9", "/sub/users/{user}", 405),
    ("GET", "/sub/v3/leaf/2", "/sub/v{version}/leaf/{a}", 200),
    ("PATCH", "/sub/v3/leaf/2", "/sub/v{version}/leaf/{a}", 405),
    ("GET", "/sub/deep/8/bottom/9", "/sub/deep/{d}/bottom/{b}", 200),
    ("POST", "/sub/deep/8/bottom/9", "/sub/deep/{d}/bottom/{b}", 405),
    ("GET", "/plain/acme/p/5", "/plain/{tenant}/p/{x:int}", 200),
    ("GET", "/plain/acme/m/6/q/r/s/t", "/plain/{tenant}/m/{y}/q/{z:path}", 200),
    ("POST", "/plain/acme/p/5", "/plain/{tenant}/p/{x:int}", 405),
    ("GET", "/plain/acme/", "/plain/{tenant}/", 200),
    ("POST", "/router/r", "/router/r", 200),
    ("GET", "/router/r", "/router/r", 405),
    ("GET", "/router/rr/s/1", "/router/rr/s/{t}", 200),
    ("GET", "/opaque/1/any/thing", "/opaque/{o}", 200),
    ("GET", "/wrapped/users/9", "/wrapped/users/{user}", 200),
    ("GET", "/raw/1", "/raw/{w}", 200),
    ("POST", "/raw/1", "/raw/{w}", 405),
    ("GET", "/openapi.json", "/openapi.json", 200),
    ("GET", "/docs", "/docs", 200),
    ("GET", "/sub/openapi.json", "/sub/openapi.json", 200),
    ("GET", "/nothing/here", UNMATCHED, 404),
    ("GET", "/sub/nothing/here", UNMATCHED, 404),
    ("GET", "/sub/deep/8/nothing", UNMATCHED, 404),
    ("GET", "/plain/acme/p/letters", UNMATCHED, 404),
    ("GET", "/router/nothing", UNMATCHED, 404),
    ("GET", "/router/rr/nothing", UNMATCHED, 404),
    ("GET", "/top/middle/1/in/nothing", UNMATCHED, 404),
    ("GET", "/items/7/", REDIRECT, 307),
    ("GET", "/top/middle/1/in/leaf/2/", REDIRECT, 307),
    ("GET", "/sub/users/9/", REDIRECT, 307),
    ("GET", "/plain/acme", REDIRECT, 307),
    ("GET", "/plain/acme/p/5/", REDIRECT, 307),
    ("GET", "/sub", REDIRECT, 307),
]


@pytest.mark.parametrize(("method", "path", "endpoint", "status"), NESTED, ids=[f"{each[0]} {each[1]}" for each in NESTED])
def test_nested_routers_and_applications(method: str, path: str, endpoint: str, status: int) -> None:
    assert seen(nested(), method, path) == (endpoint, status)


@pytest.mark.parametrize(("method", "path", "endpoint", "status"), NESTED, ids=[f"{each[0]} {each[1]}" for each in NESTED])
def test_the_same_below_a_root_path(method: str, path: str, endpoint: str, status: int) -> None:
    """As behind a proxy that strips a prefix: the path that the server gives has it, and no route of ours does."""
    assert seen(nested(), method, "/proxied" + path, root_path="/proxied") == (endpoint, status)
    mounted = "/all" + endpoint if endpoint.startswith("/") else endpoint
    outer = FastAPI()
    outer.mount("/all", nested())
    assert seen(outer, method, "/proxied/all" + path, root_path="/proxied") == (mounted, status)
    outer.root_path = "/proxied"  # as its argument, which FastAPI calls deprecated
    assert seen(outer, method, "/proxied/all" + path) == (mounted, status)


def test_a_mounted_application_that_sets_a_root_path_by_itself_is_known_by_its_own_templates() -> None:
    sub = FastAPI()
    sub.root_path = "/elsewhere"
    sub.get("/users/{user}")(lambda user: user)
    outer = FastAPI()
    outer.mount("/sub", sub)
    endpoint, _ = seen(outer, "GET", "/sub/users/7")
    assert endpoint in {"/users/{user}", UNMATCHED}


def test_one_middleware_over_all_of_them_mixes_nothing_up() -> None:
    """What is kept from one request must not name another."""
    app = MetricsMiddleware(nested())
    for method, path, _, _ in NESTED * 3:
        drive(app, scope(method, path))
    expected: dict[tuple[str, str, str], int] = {}
    for method, _, endpoint, status in NESTED * 3:
        key = (method, endpoint, str(status))
        expected[key] = expected.get(key, 0) + 1
    assert counted() == expected


@pytest.mark.parametrize("inside", [False, True])
def test_the_same_where_the_middleware_is_added_to_the_application(inside: bool) -> None:
    app = nested()
    app.add_middleware(MetricsMiddleware)
    if inside:
        outer = Starlette(routes=[Mount("/outer/{o}", app)])
        drive(outer, scope(path="/outer/1/sub/users/9"))
        drive(outer, scope(path="/outer/1/items/9"))
        assert counted() == {("GET", "/outer/{o}/sub/users/{user}", "200"): 1, ("GET", "/outer/{o}/items/{item}", "200"): 1}
    else:
        for path in ("/sub/users/9", "/top/middle/1/in/leaf/2"):
            drive(app, scope(path=path))
        assert {endpoint for _, endpoint, _ in counted()} == {"/sub/users/{user}", "/top/middle/{m}/in/leaf/{a}"}


def test_static_files(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("a {}")
    app = FastAPI()
    app.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/{tenant}/assets", StaticFiles(directory=tmp_path))
    assert seen(app, "GET", "/static/style.css") == ("/static", 200)
    assert seen(app, "GET", "/static/missing.css")[1] == 404
    assert seen(app, "GET", "/static/missing.css")[0] == "/static"
    assert seen(app, "POST", "/static/style.css") == ("/static", 405)
    assert seen(app, "GET", "/acme/assets/style.css") == ("/{tenant}/assets", 200)
    assert seen(Starlette(routes=[Mount("", StaticFiles(directory=tmp_path))]), "GET", "/style.css") == ("/", 200)


def by_host() -> Starlette:
    api = FastAPI()
    api.get("/users/{user}")(lambda user: user)
    api.mount("/x", opaque)
    deep = FastAPI()
    deep.get("/z")(lambda: "z")
    api.mount("/same", deep)
    site = Router([Mount("/{page}", deep), Route("/", ok)])
    return Starlette(
        routes=[
            Host("api.example.org", api),
            Host("{tenant}.example.org", site),
            Host("opaque.example.net", opaque),
            Route("/users/{other}", ok),
            Mount("/{elsewhere}", opaque),
        ]
    )


BY_HOST = [
    ("api.example.org", "/users/1", "/users/{user}", 200),
    ("testserver", "/users/1", "/users/{other}", 200),
    ("api.example.org", "/x/1", "/x", 200),
    ("api.example.org", "/same/z", "/same/z", 200),
    ("acme.example.org", "/same/z", "/{page}/z", 200),
    ("other.example.org", "/x/z", "/{page}/z", 200),
    ("testserver", "/x/1", "/{elsewhere}", 200),
    ("opaque.example.net", "/x/1", "/", 200),
    ("acme.example.org", "/", "/", 200),
    ("api.example.org", "/missing", UNMATCHED, 404),
    ("api.example.org", "/users/1/", REDIRECT, 307),
]


@pytest.mark.parametrize(("host", "path", "endpoint", "status"), BY_HOST)
def test_hosts(host: str, path: str, endpoint: str, status: int) -> None:
    assert seen(by_host(), "GET", path, host) == (endpoint, status)


def test_hosts_under_one_middleware_are_not_taken_for_one_another() -> None:
    app = MetricsMiddleware(by_host())
    for host, path, endpoint, status in itertools.chain(BY_HOST, reversed(BY_HOST)):
        forget()
        app.forget()
        app.answers.methods.clear()
        request = scope("GET", path)
        request["headers"] = [(b"host", host.encode())]
        drive(app, request)
        assert counted() == {("GET", endpoint, str(status)): 1}, host


def test_middlewares_that_answer_before_routing() -> None:
    def app(*middleware: Middleware) -> Starlette:
        return Starlette(routes=[Route("/items/{id}", ok)], middleware=middleware)

    class Refusing(BaseHTTPMiddleware):
        async def dispatch(self, _request: Request, _call_next: Any) -> Response:
            return PlainTextResponse("no", 403)

    assert seen(app(Middleware(Refusing)), "GET", "/items/1") == (UNMATCHED, 403)
    assert seen(app(Middleware(TrustedHostMiddleware, allowed_hosts=["x"])), "GET", "/items/1") == (UNMATCHED, 400)
    assert seen(app(Middleware(HTTPSRedirectMiddleware)), "GET", "/items/1") == (REDIRECT, 307)
    cors = app(Middleware(CORSMiddleware, allow_origins=["*"]))
    request = scope("OPTIONS", "/items/1", [(b"origin", b"http://x"), (b"access-control-request-method", b"GET")])
    forget()
    drive(MetricsMiddleware(cors), request)
    assert counted() == {("OPTIONS", UNMATCHED, "200"): 1}


def test_answers_of_a_route_are_the_routes_whatever_their_status() -> None:
    app = FastAPI()

    def missing() -> None:
        raise HTTPException(404)

    app.get("/missing/{id}")(missing)
    app.get("/dependency/{id}", dependencies=[Depends(missing)])(lambda: None)
    app.get("/moved/{id}")(lambda id: RedirectResponse("/elsewhere/" + id))  # noqa: A006
    app.get("/number/{id}")(typed)
    app.get("/unmodified/{id}")(lambda: Response(status_code=304))
    for path, endpoint, status in [
        ("/missing/1", "/missing/{id}", 404),
        ("/dependency/1", "/dependency/{id}", 404),
        ("/moved/1", "/moved/{id}", 307),
        ("/number/letters", "/number/{id}", 422),
        ("/unmodified/1", "/unmodified/{id}", 304),
    ]:
        assert seen(app, "GET", path) == (endpoint, status)


def typed(id: int) -> int:  # noqa: A002
    return id


def test_the_frontend_of_fastapi_is_one_endpoint(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "a.js").write_text("1")
    app = FastAPI()
    app.get("/api/{x}")(lambda x: x)
    app.frontend("/", directory=tmp_path)
    assert seen(app, "GET", "/api/1") == ("/api/{x}", 200)
    assert seen(app, "GET", "/a.js") == ("/{frontend}", 200)
    assert "raw" not in seen(app, "GET", "/raw/path")[0]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
def test_redirects_without_a_route(status: int) -> None:
    assert Templates().find(scope(path="/raw"), status) == REDIRECT


@pytest.mark.parametrize("status", [0, 101, 200, 304, 400, 404, 500])
def test_other_answers_without_a_route(status: int) -> None:
    assert Templates().find(scope(path="/raw"), status) == UNMATCHED


def test_a_route_that_cannot_be_asked_costs_a_label_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @property
        def path(self) -> str:
            raise ValueError("no path today")

    assert Templates().find(scope(path="/raw", route=Broken()), 200) == UNMATCHED
    assert Templates().find(scope(path="/raw", route=Broken(), app_root_path="", endpoint=ok), 200) == UNMATCHED
    assert "finding the route" in caplog.text


@pytest.mark.parametrize("path", [7, b"/bytes", ["/list"], None, ""])
def test_a_path_that_is_no_template_is_no_label(path: Any) -> None:
    class Odd:
        def __init__(self) -> None:
            self.path = path

    assert Templates().find(scope(path="/raw", route=Odd()), 200) == UNMATCHED


def test_what_was_searched_for_is_kept_within_bounds() -> None:
    app = FastAPI()
    app.mount("/opaque/{o}", opaque)
    sub = FastAPI()
    sub.get("/x")(lambda: None)
    app.mount("/{tenant}/sub", sub)
    middleware = MetricsMiddleware(app)
    for number in range(1100):
        drive(middleware, scope(path=f"/opaque/{number}/a"))
        drive(middleware, scope(path=f"/{number}/sub/x"))
    drive(middleware, scope(path=f"/opaque/{'long' * 10_000}/a"))
    drive(middleware, scope(path=f"/{'long' * 10_000}/sub/x"))
    assert counted() == {("GET", "/opaque/{o}", "200"): 1101, ("GET", "/{tenant}/sub/x", "200"): 1101}
    for kept in (middleware.answers.templates._prefixes, middleware.answers.templates._leaves):
        assert len(kept) <= 1024
        assert max(sum(map(len, key)) for key in kept) <= 512


@pytest.mark.parametrize("included", [False, True])
def test_one_endpoint_answers_with_one_status_after_another(included: bool) -> None:
    app, router = FastAPI(), APIRouter()

    async def answer(status: int) -> Response:
        return Response(b"x", status)

    (router if included else app).get("/answer/{status}")(answer)
    app.include_router(router, prefix="/v1" if included else "")
    prefix = "/v1" if included else ""
    counting = MetricsMiddleware(app)
    for status in (200, 200, 404, 200, 503, 404):
        drive(counting, scope("GET", f"{prefix}/answer/{status}"))
    endpoint = f"{prefix}/answer/{{status}}"
    assert counted() == {("GET", endpoint, "200"): 3, ("GET", endpoint, "404"): 2, ("GET", endpoint, "503"): 1}
