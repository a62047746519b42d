"""Business Metrics: users, tokens and costs. The totals of the database are the same in all instances and are never added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.grafana.dashboard import Dashboard, Section
from monitoring.grafana.panels import Panel, Query, figure, graph

if TYPE_CHECKING:
    from monitoring.grafana.queries import Queries

_COSTS = "neurectomy_cost_dollars_total"
_TOKENS = "neurectomy_tokens_generated_total"
_PER_USER = "neurectomy_requests_per_user"
_WINDOWS = "30m"
"""Windows of users' requests close every five minutes: within Grafana's own window there is mostly none."""


def business(queries: Queries) -> Dashboard:
    """Give it from top to bottom."""
    return Dashboard(
        "Business Metrics",
        "Users, API keys, tokens and costs. Figures of users and keys are those of the database: instances on one database show the same.",
        (
            Section("Now", (_now(queries),)),
            Section("Users", (_users(queries),)),
            Section("Tokens and costs", (_tokens(queries), _costs(queries))),
        ),
    )


def _now(queries: Queries) -> tuple[Panel, ...]:
    return (
        figure("Active users", "Distinct users of the last five minutes.", "short", queries.greatest("neurectomy_active_users")),
        figure("API keys", "Keys that are neither revoked nor expired.", "short", queries.greatest("neurectomy_api_keys_active")),
        figure(
            "Billed tokens", "Generated tokens that were billed in the time shown.", "short", Query(queries.gained(_TOKENS), instant=True)
        ),
        figure("Costs", "US dollars that were billed in the time shown.", "currencyUSD", Query(queries.gained(_COSTS), instant=True)),
    )


def _users(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Active users",
            "Distinct users of the last five minutes, over all workers and all instances on the database.",
            "short",
            Query(queries.greatest("neurectomy_active_users"), "users"),
            alerts=("NoElectedWriter",),
        ),
        graph(
            "Requests per user",
            "Requests of each user in a window of five minutes, over the last half hour: half of the users make fewer, 95% make fewer.",
            "short",
            *(Query(_per_user(queries, part), f"p{part * 100:g}") for part in (0.5, 0.95)),
        ),
        graph(
            "Requests of users that were not noted",
            "Requests per second for which a worker's table had no room: they are missing in the figures of users.",
            "reqps",
            Query(queries.rate("neurectomy_users_unnoted_requests_total", by="instance"), "{{instance}}"),
            above=(0.001,),
        ),
    )


def _per_user(queries: Queries, part: float) -> str:
    return f"histogram_quantile({part:g}, max by (le) (increase({queries.of(f'{_PER_USER}_bucket')}[{_WINDOWS}])))"


def _tokens(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Billed tokens",
            "Generated tokens per second that were billed.",
            "short",
            Query(queries.rate(_TOKENS, by="model"), "{{model}}"),
            stacked=True,
        ),
        graph(
            "Generated and billed",
            "Tokens per second that models generated, and those of them that were billed: calls that fail cost nothing.",
            "short",
            Query(queries.rate("neurectomy_ryot_tokens_generated_total"), "generated"),
            Query(queries.rate(_TOKENS), "billed"),
        ),
    )


def _costs(queries: Queries) -> tuple[Panel, ...]:
    return (
        graph(
            "Costs by model",
            "US dollars per hour.",
            "currencyUSD",
            Query(f"3600 * {queries.rate(_COSTS, by='model')}", "{{model}}"),
            stacked=True,
        ),
        graph(
            "Costs by endpoint",
            "US dollars per hour.",
            "currencyUSD",
            Query(f"3600 * {queries.rate(_COSTS, by='endpoint')}", "{{endpoint}}"),
            stacked=True,
        ),
        graph(
            "Costs per request",
            "US dollars that a call has cost in the last five minutes, in the mean; 0 where there was none.",
            "currencyUSD",
            Query(queries.greatest("neurectomy_cost_per_request", by="endpoint"), "{{endpoint}}"),
        ),
    )
