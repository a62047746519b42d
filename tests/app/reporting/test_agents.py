"""Agents on the live service, many workers, on both databases: their tasks and gauges, and what is refused."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.keyed_service import ADMIN, JSON, bearer
from tests.conftest import ROOT, built_environment
from tests.processes import send, wait_dead, wait_until
from tests.server_process import Answer, ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn
    from tests.postgres import PostgreSQL


GAUGES = ("healthy", "utilization_ratio", "last_heartbeat_timestamp_seconds")


class Client:
    """Asks one service as its operator; a worker that is killed under a request is asked again."""

    def __init__(self, gunicorn: Gunicorn) -> None:
        self.gunicorn = gunicorn

    def ask(self, method: str, path: str, body: object = None, key: str | None = ADMIN) -> Answer:
        raw = None if body is None else json.dumps(body).encode()
        headers = (JSON if raw is not None else {}) | ({} if key is None else bearer(key))
        return ask(self.gunicorn.port, method, f"/v1{path}", raw, headers)

    def json(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status == status, answer.body
        return json.loads(answer.body)

    def shown(self) -> dict[str, float]:
        lines = self.gunicorn.scrape().splitlines()
        found = (line.rpartition(" ") for line in lines if line.startswith("neurectomy_agent_") and "_bucket" not in line)
        return {name.removeprefix("neurectomy_agent_"): float(value) for name, _, value in found}


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.proof), "postgresql"])
def client(request: pytest.FixtureRequest, gunicorn: Gunicorn) -> Client:
    settings = {"WEB_CONCURRENCY": "3", "REQUIRE_API_KEY": "1", "ADMIN_KEY": ADMIN}
    if request.param == "postgresql":
        made: PostgreSQL = request.getfixturevalue("server")
        settings["DATABASE_URL"] = made.create()
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=built_environment() | settings, check=True)
    client = Client(gunicorn)
    client.master = gunicorn.start(**settings)  # type: ignore[attr-defined]
    return client


def remove_as_whoever_shows_it_dies(client: Client, agent: str) -> None:
    """Remove an agent, and kill the only worker that has ever shown it before that one can know."""
    family = "neurectomy_agent_healthy"
    showing = client.gunicorn.showing(client.master, family)  # type: ignore[attr-defined]
    assert showing is not None
    assert f'healthy{{agent="{agent}"}}' in client.shown()
    assert client.ask("DELETE", f"/agents/{agent}").status == 204
    send(showing, signal.SIGKILL)
    wait_dead(showing)
    wait_until(lambda: client.gunicorn.showing(client.master, family) not in (None, showing), "another worker shows")  # type: ignore[attr-defined]
    assert gauges_of(client, agent) == []


def gauges_of(client: Client, agent: str) -> list[str]:
    return [name for name in client.shown() if f'"{agent}"' in name and name.startswith(GAUGES)]


@pytest.mark.usefixtures("preloaded")
def test_a_collective_at_work(client: Client) -> None:
    names = [f"agent-{number}" for number in range(3)]
    for name in (*names, names[0]):
        assert client.json("POST", "/agents", {"id": name}, 201) == {"id": name}
    tasks = [client.json("POST", "/tasks", {"input": {"number": number}}, 201)["id"] for number in range(12)]
    done = []
    for turn in range(12):
        name = names[turn % 3]
        task = client.json("POST", f"/agents/{name}/tasks")
        assert (task["agent"], task["status"], task["input"]) == (name, "taken", {"number": turn})
        path = f"/agents/{name}/tasks/{task['id']}/report"
        status = "success" if turn % 4 else "error"
        assert client.ask("POST", path, {"status": status, "result": [turn]}).status == 204
        assert client.ask("POST", path, {"status": status}).status == 409
        done.append(task["id"])
        if turn % 3 == 0:
            victim = random.choice(client.gunicorn.workers(client.master))  # type: ignore[attr-defined]
            send(victim, signal.SIGKILL)
            wait_dead(victim)
            wait_until(lambda: len(client.gunicorn.workers(client.master)) == 3, "three workers run")  # type: ignore[attr-defined]
    assert done == tasks
    assert client.ask("POST", f"/agents/{names[0]}/tasks").status == 204
    found = client.json("GET", f"/tasks/{tasks[5]}")
    assert (found["status"], found["result"], found["agent"]) == ("success", [5], "agent-2")
    shown = client.shown()
    assert sum(value for name, value in shown.items() if name.startswith("tasks_total")) == 12
    assert sum(value for name, value in shown.items() if name.startswith("tasks_total") and 'status="error"' in name) == 3
    assert sum(value for name, value in shown.items() if name.startswith("task_duration_seconds_count")) == 12

    def gauges() -> bool:
        found = client.shown()
        return all(found.get(f'healthy{{agent="{name}"}}') == 1 and f'utilization_ratio{{agent="{name}"}}' in found for name in names)

    wait_until(gauges, "the agents are shown")
    remove_as_whoever_shows_it_dies(client, "agent-1")
    wait_until(lambda: len(client.gunicorn.workers(client.master)) == 3, "three workers run")  # type: ignore[attr-defined]
    assert client.ask("DELETE", "/agents/agent-2").status == 204
    wait_until(lambda: 'healthy{agent="agent-2"}' not in client.shown(), "the removed agent is not shown any more")
    assert client.json("POST", "/agents", {"id": "agent-2"}, 201) == {"id": "agent-2"}
    wait_until(lambda: client.shown().get('healthy{agent="agent-2"}') == 1, "it is back")
    assert gauges_of(client, "agent-1") == [], "it stays gone"
    assert {each["id"]: each["healthy"] for each in client.json("GET", "/agents")["agents"]} == {"agent-0": True, "agent-2": True}
    before = client.shown()['last_heartbeat_timestamp_seconds{agent="agent-0"}']
    assert client.ask("POST", "/agents/agent-0/heartbeat").status == 204
    wait_until(lambda: client.shown()['last_heartbeat_timestamp_seconds{agent="agent-0"}'] > before, "the heartbeat is shown")
    for method, path, body, status in (
        ("POST", "/agents", {"id": "Not An Id"}, 422),
        ("POST", "/agents", {"id": "x" * 41}, 422),
        ("POST", "/agents/none/heartbeat", None, 404),
        ("POST", "/agents/none/tasks", None, 404),
        ("DELETE", "/agents/none", None, 404),
        ("POST", f"/agents/none/tasks/{tasks[0]}/report", {"status": "success"}, 404),
        ("POST", f"/agents/agent-0/tasks/{tasks[0]}/report", {"status": "fine"}, 422),
        ("POST", "/agents/agent-0/tasks/999999/report", {"status": "success"}, 409),
        ("GET", "/tasks/999999", None, 404),
        ("POST", "/tasks", {}, 422),
        ("POST", "/tasks", {"input": "x" * 70_000}, 413),
    ):
        answer = client.ask(method, path, body)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), (path, answer.body)
    user = client.json("POST", "/keys", {"user": "somebody"}, 201)["key"]
    assert client.ask("GET", "/agents", key=user).status == 403
    assert client.ask("GET", "/agents", key=None).status == 401


HIDING = """
import asyncio, contextlib, os
from monitoring.multiprocess import MergedCollector, install
install()
from monitoring.multiprocess.linux import file_lock
from monitoring.multiprocess.storage import lock_file
from monitoring.multiprocess.worker.election import Election
from monitoring.multiprocess.worker.slot_store import store
from app.reporting import agents
from app.store.agents import AgentState
from app.store.errors import StoreError

class Database:
    @property
    def used(self):
        raise StoreError("away")

async def main():
    collective = agents.Collective(Database())
    for number in range(2):
        agents.show(AgentState(f"agent-{number}", 0.0, 0.0, healthy=True, utilization=0.5))
        collective._shown.add(f"agent-{number}")
    collective.every_seconds = 0.0
    stopped = lock_file.open_lock_file(store.directory)  # a process that is stopped while it removes series
    assert file_lock.try_lock(stopped, lock_file.EDIT)
    task = asyncio.create_task(collective._run(Election("agents")))
    await asyncio.sleep(0)
    while not collective._problems._known:
        await asyncio.sleep(0)
    os.close(stopped)
    while collective._shown:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

asyncio.run(main())
print(MergedCollector(None).render().decode())
"""


def test_the_event_loop_goes_on_while_agents_are_hidden(metrics_directory: Path) -> None:
    environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    done = subprocess.run([sys.executable, "-c", HIDING], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert "multiproc_workers_started_total 1.0" in done.stdout
    assert 'neurectomy_agent_healthy{agent="' not in done.stdout, done.stderr
