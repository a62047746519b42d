"""Agents. They report to any worker, and each agent has one series."""

from .declaration import Rule, counter, gauge, histogram

_AGENT = ("agent",)

agent_healthy = gauge("agent_healthy", "1 while the agent's heartbeats are in time, otherwise 0.", Rule.ONE, _AGENT)
agent_utilization_ratio = gauge(
    "agent_utilization_ratio", "Share of the last window in which the agent had a task, 0 to 1.", Rule.ONE, _AGENT
)
agent_last_heartbeat_timestamp_seconds = gauge(
    "agent_last_heartbeat_timestamp_seconds", "Time of the agent's last heartbeat, in seconds since 1970.", Rule.ONE, _AGENT
)
agent_tasks = counter("agent_tasks", "Tasks that agents reported by outcome: success, error, timeout, cancelled.", (*_AGENT, "status"))
agent_task_duration_seconds = histogram(
    "agent_task_duration_seconds",
    "Time from the start of a task to the agent's report, by outcome.",
    (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0),
    (*_AGENT, "status"),
)
