"""Agent Collective: which agents are well, and what they do. Their states are the database's, the same in every instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Dashboard, Rows
from monitoring.grafana.panels import GREEN, RED, figure, graph, timeline

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_HEALTHY = "neurectomy_agent_healthy"
_UTILIZATION = "neurectomy_agent_utilization_ratio"
_TASKS = "neurectomy_agent_tasks_total"
_TOOK = "neurectomy_agent_task_duration_seconds"
_SILENT_SECONDS = 30
"""An agent that is silent for this long is not well."""


def agents(ask: Queries) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        "Agent Collective",
        "Health, utilization and tasks of all agents. An agent may speak to any worker: its state is one, whatever instance shows it.",
        {"Now": _now(ask), "Agents": _agents(ask), "Tasks": _tasks(ask)},
    )


def _now(ask: Queries) -> Rows:
    healthy, utilization = ask.greatest(_HEALTHY, by="agent"), ask.greatest(_UTILIZATION, by="agent")
    silent = f"Agents that have sent no heartbeat for {_SILENT_SECONDS} seconds."
    average = "Share of the last five minutes in which an agent had a task, in the mean over all agents."
    yield {
        "Agents": figure("Registered agents.", f"count ({healthy})"),
        "Down": figure(silent, f"count ({healthy}) - sum ({healthy})", above=(1,), alerts=("AgentDown",)),
        "Utilization": figure(average, f"avg ({utilization})", unit="percentunit"),
        "Tasks": figure("Tasks that agents reported in the time shown.", ask.gained(_TASKS)),
    }


def _agents(ask: Queries) -> Rows:
    healthy, beat = ask.greatest(_HEALTHY, by="agent"), ask.greatest("neurectomy_agent_last_heartbeat_timestamp_seconds", by="agent")
    words = (("0", "down", RED), ("1", "well", GREEN))
    yield {
        "Health": timeline("Whether an agent's heartbeats come in time.", healthy, words=words, below=(1,), alerts=("AgentDown",)),
    }
    yield {
        "Since the last heartbeat": graph(
            "Time since an agent was last heard of.", "time()" - beat, above=(_SILENT_SECONDS,), alerts=("AgentDown",)
        ),
        "Utilization": graph(
            "Share of the last five minutes in which an agent had a task.", ask.greatest(_UTILIZATION, by="agent"), most=1
        ),
    }


def _tasks(ask: Queries) -> Rows:
    by_agent, failed = ask.rate(_TASKS, by="agent"), ask.rate(_TASKS, 'status=~"error|timeout"', by="agent")
    yield {
        "Tasks by outcome": graph("Tasks per second that agents reported.", ask.rate(_TASKS, by="status"), unit="ops", stacked=True),
        "Tasks by agent": graph("Tasks per second that an agent reported.", by_agent, unit="ops", stacked=True),
        "Failed tasks by agent": graph(
            "Share of an agent's tasks that ended with an error or a timeout; agents that never failed are not shown.",
            failed / by_agent,
        ),
    }
    yield {
        "Task duration": graph(
            "Time from taking a task to its report: half of the tasks and 95% are faster.", *ask.quantiles(0.5, 0.95, of=_TOOK)
        ),
        "Task duration by agent, p95": graph(
            "Time from taking a task to its report that 95% of an agent's tasks keep.", ask.quantile(_TOOK, by="agent")
        ),
    }
