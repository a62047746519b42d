"""The deployment itself."""

from .declaration import info

system_info = info(
    "system",
    "The deployment: version, environment, cluster. One series: the newest that any worker set.",
    ("version", "environment", "cluster"),
)
