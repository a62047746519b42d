"""The pieces of PromQL that rules and alerts share."""

from __future__ import annotations

from .configuration import Configuration, duration

LEVEL = "cluster, job"
"""What every aggregation keeps; instance and worker go."""


def matchers(*parts: str) -> str:
    """Join the ones that are not empty."""
    joined = ",".join(part for part in parts if part)
    return f"{{{joined}}}" if joined else ""


def rate(configuration: Configuration, family: str, seconds: float, *chosen: str, by: str = "") -> str:
    """Return the sum of a counter's rates by cluster, job and more labels."""
    labels = f"{LEVEL}, {by}" if by else LEVEL
    return f"sum by ({labels}) (rate({family}{matchers(configuration.selector, *chosen)}[{duration(seconds)}]))"


def users(configuration: Configuration) -> str:
    """Choose the endpoints that are users'."""
    return f'endpoint!~"{configuration.left_out}"'


def quick(configuration: Configuration) -> str:
    """Choose the endpoints that the latency objective is about."""
    return f'endpoint!~"{configuration.left_out}|{configuration.slow_by_nature}"'


def quantile(configuration: Configuration, family: str, seconds: float, *chosen: str, by: str) -> str:
    """Return the 95th percentile of a histogram, by cluster, job and more labels."""
    return f"histogram_quantile(0.95, {rate(configuration, f'{family}_bucket', seconds, *chosen, by=f'{by}, le')})"
