"""Agents: they report to any worker, and each has one value."""

from .declaration import Rule, counter, gauge, histogram

_AGENT = ("agent",)

agent_healthy = gauge("agent_healthy", "1 while the agent's heartbeats come in time, else 0.", Rule.ONE, _AGENT)
agent_utilization_ratio = gauge(
    "agent_utilization_ratio", "Share of the last window in which the agent had a task, 0 to 1.", Rule.ONE, _AGENT
)
agent_last_heartbeat_timestamp_seconds = gauge(
    "agent_last_heartbeat_timestamp_seconds", "Moment of the agent's last heartbeat, in seconds since 1970.", Rule.ONE, _AGENT
)
agent_tasks = counter("agent_tasks", "Tasks that agents reported by outcome: success, error, timeout, cancelled.", (*_AGENT, "status"))
agent_task_duration_seconds = histogram(
    "agent_task_duration_seconds",
    "Time from an agent's taking a task to its report, by outcome.",
    (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0),
    (*_AGENT, "status"),
)
