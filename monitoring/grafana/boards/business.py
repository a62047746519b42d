"""Business Metrics: users, tokens and costs. The totals of the database are the same in all instances and are never added up."""

from __future__ import annotations

from monitoring.grafana.dashboard import Dashboard, Rows
from monitoring.grafana.panels import figure, graph
from monitoring.grafana.queries import Queries, Query

_COSTS = "neurectomy_cost_dollars_total"
_TOKENS = "neurectomy_tokens_generated_total"
_USERS = "neurectomy_active_users"


def business(ask: Queries) -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        "Business Metrics",
        "Users, API keys, tokens and costs. Figures of users and keys are those of the database: instances on one database show the same.",
        {"Now": _now(ask), "Users": _users(ask), "Tokens and costs": _billed(ask)},
    )


def _now(ask: Queries) -> Rows:
    yield {
        "Active users": figure("Distinct users of the last five minutes.", ask.greatest(_USERS)),
        "API keys": figure("Keys that are neither revoked nor expired.", ask.greatest("neurectomy_api_keys_active")),
        "Billed tokens": figure("Generated tokens that were billed in the time shown.", ask.gained(_TOKENS)),
        "Costs": figure("US dollars that were billed in the time shown.", ask.gained(_COSTS)),
    }


def _users(ask: Queries) -> Rows:
    # Windows of users' requests close every five minutes: within Grafana's own window there is mostly none.
    windows = f"max by (le) (increase({ask.of('neurectomy_requests_per_user_bucket')}[30m]))"
    yield {
        "Active users": graph(
            "Distinct users of the last five minutes, over all workers and all instances on the database.",
            ask.greatest(_USERS).named("users"),
            alerts=("NoElectedWriter",),
        ),
        "Requests per user": graph(
            "Requests of each user in a window of five minutes, over the last half hour: half of the users make fewer, 95% make fewer.",
            *(Query(f"histogram_quantile({part:g}, {windows})", f"p{part * 100:g}") for part in (0.5, 0.95)),
        ),
        "Requests of users that were not noted": graph(
            "Requests per second for which a worker's table had no room: they are missing in the figures of users.",
            ask.rate("neurectomy_users_unnoted_requests_total", by="instance"),
            unit="reqps",
            above=(0.001,),
        ),
    }


def _billed(ask: Queries) -> Rows:
    yield {
        "Billed tokens": graph("Generated tokens per second that were billed.", ask.rate(_TOKENS, by="model"), stacked=True),
        "Generated and billed": graph(
            "Tokens per second that models generated, and those of them that were billed: calls that fail cost nothing.",
            ask.rate("neurectomy_ryot_tokens_generated_total").named("generated"),
            ask.rate(_TOKENS).named("billed"),
        ),
    }
    by_model, by_endpoint = (3600 * ask.rate(_COSTS, by=label) for label in ("model", "endpoint"))
    yield {
        "Costs by model": graph("US dollars per hour.", by_model, unit="currencyUSD", stacked=True),
        "Costs by endpoint": graph("US dollars per hour.", by_endpoint, unit="currencyUSD", stacked=True),
        "Costs per request": graph(
            "US dollars that a call has cost in the last five minutes, in the mean; 0 where there was none.",
            ask.greatest("neurectomy_cost_per_request", by="endpoint"),
            unit="currencyUSD",
        ),
    }
