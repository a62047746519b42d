"""Users, keys and costs. No label holds a user or a key. Totals of a shared database are equal in all pods: use `max`, not `sum`."""

from .declaration import Rule, counter, gauge, histogram

active_users = gauge("active_users", "Distinct users of the last five minutes, over all workers.", Rule.ONE)
requests_per_user = histogram(
    "requests_per_user",
    "Requests of each user that was active in a window, observed when the window closes.",
    (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    rule=Rule.ONE,
)
api_keys_active = gauge("api_keys_active", "API keys that are neither revoked nor expired.", Rule.ONE)
tokens_generated = counter("tokens_generated", "Tokens that were billed.", ("model",))
cost_dollars = counter("cost_dollars", "Costs that were billed, in US dollars.", ("endpoint", "model"))
cost_per_request = gauge("cost_per_request", "Costs over requests of the last window, in US dollars.", Rule.ONE, ("endpoint",))
users_unnoted_requests = counter(
    "users_unnoted_requests", "Requests of users that did not fit into a worker's table: the families of users lack them."
)
