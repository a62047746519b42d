"""Agent Collective: which agents are well, and what they do. Their states are the database's, the same in every instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Dashboard, Section
from monitoring.grafana.panels import GREEN, RED, Panel, Query, figure, graph, latency, timeline

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_TASKS = "neurectomy_agent_tasks_total"
_TOOK = "neurectomy_agent_task_duration_seconds"
_SILENT_SECONDS = 30
"""An agent that is silent for so long is not well."""


def agents(queries: Queries) -> Dashboard:
    """Give it from top to bottom."""
    return Dashboard(
        "Agent Collective",
        "Health, utilization and tasks of all agents. An agent may speak to any worker: its state is one, whatever instance shows it.",
        (
            Section("Now", (_now(queries),)),
            Section("Agents", ((_health(queries),), _course(queries))),
            Section("Tasks", (_tasks(queries), _times(queries))),
        ),
    )


def _now(queries: Queries) -> tuple[Panel, ...]:
    healthy = queries.greatest("neurectomy_agent_healthy", by="agent")
    return (
        figure("Agents", "Registered agents.", "short", f"count ({healthy})"),
        figure(
            "Down",
            f"Agents that have sent no heartbeat for {_SILENT_SECONDS} seconds.",
            "short",
            f"count ({healthy}) - sum ({healthy})",
            above=(1,),
            alerts=("AgentDown",),
        ),
        figure(
            "Utilization",
            "Share of the last five minutes in which an agent had a task, in the mean over all agents.",
            "percentunit",
            f"avg ({queries.greatest('neurectomy_agent_utilization_ratio', by='agent')})",
        ),
        figure("Tasks", "Tasks that agents reported in the time shown.", "short", Query(queries.gained(_TASKS), instant=True)),
    )


def _health(queries: Queries) -> Panel:
    return timeline(
        "Health",
        "Whether an agent's heartbeats come in time.",
        "none",
        Query(queries.greatest("neurectomy_agent_healthy", by="agent"), "{{agent}}"),
        words=(("0", "down", RED), ("1", "well", GREEN)),
        below=(1,),
        alerts=("AgentDown",),
    )


def _course(queries: Queries) -> tuple[Panel, ...]:
    beat = queries.greatest("neurectomy_agent_last_heartbeat_timestamp_seconds", by="agent")
    return (
        graph(
            "Since the last heartbeat",
            "Time since an agent was last heard of.",
            "s",
            Query(f"time() - {beat}", "{{agent}}"),
            above=(_SILENT_SECONDS,),
            alerts=("AgentDown",),
        ),
        graph(
            "Utilization",
            "Share of the last five minutes in which an agent had a task.",
            "percentunit",
            Query(queries.greatest("neurectomy_agent_utilization_ratio", by="agent"), "{{agent}}"),
            most=1,
        ),
    )


def _tasks(queries: Queries) -> tuple[Panel, ...]:
    bad = queries.rate(_TASKS, 'status=~"error|timeout"', by="agent")
    return (
        graph(
            "Tasks by outcome",
            "Tasks per second that agents reported.",
            "ops",
            Query(queries.rate(_TASKS, by="status"), "{{status}}"),
            stacked=True,
        ),
        graph(
            "Tasks by agent",
            "Tasks per second that an agent reported.",
            "ops",
            Query(queries.rate(_TASKS, by="agent"), "{{agent}}"),
            stacked=True,
        ),
        graph(
            "Failed tasks by agent",
            "Share of an agent's tasks that ended with an error or a timeout; agents that never failed are not shown.",
            "percentunit",
            Query(f"{bad} / {queries.rate(_TASKS, by='agent')}", "{{agent}}"),
        ),
    )


def _times(queries: Queries) -> tuple[Panel, ...]:
    return (
        latency(
            "Task duration",
            "Time from taking a task to its report: half of the tasks and 95% are faster.",
            {f"p{part * 100:g}": queries.quantile(part, _TOOK) for part in (0.5, 0.95)},
        ),
        latency(
            "Task duration by agent, p95",
            "Time from taking a task to its report that 95% of an agent's tasks keep.",
            {"{{agent}}": queries.quantile(0.95, _TOOK, by="agent")},
        ),
    )
