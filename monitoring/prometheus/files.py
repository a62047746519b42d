"""The four files, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from . import generator
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
    """Return the text of each file, by name."""
    return {name: _HEAD + yaml.safe_dump(made(configuration), sort_keys=False, width=160) for name, made in _MADE.items()}


def write(configuration: Configuration, folder: Path) -> None:
    """Write all of them. OSError where that fails."""
    # The URL of a webhook is usually a secret.
    secret = configuration.webhook_url or configuration.watchdog_url
    generator.write(texts(configuration), folder, mode=0o600 if secret else None)
