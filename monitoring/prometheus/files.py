"""The four files, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from .alertmanager_config import notifying
from .alerts.groups import alerts
from .rules import rules
from .scrape_config import scraping

if TYPE_CHECKING:
    from pathlib import Path

    from .configuration import Configuration

_HEAD = "# Made by `python -m monitoring.prometheus`; change monitoring/prometheus/configuration.py and make it anew.\n"
_MADE = {"rules.yml": rules, "alerts.yml": alerts, "prometheus.yml": scraping, "alertmanager.yml": notifying}


def texts(configuration: Configuration) -> dict[str, str]:
    """Give each file's name and text."""
    return {name: _HEAD + yaml.safe_dump(made(configuration), sort_keys=False, width=160) for name, made in _MADE.items()}


def write(configuration: Configuration, folder: Path) -> None:
    """Write all of them. OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(configuration).items():
        (folder / name).write_text(text)
        if configuration.webhook_url or configuration.watchdog_url:
            (folder / name).chmod(0o600)  # a webhook's URL is a secret, as a rule
