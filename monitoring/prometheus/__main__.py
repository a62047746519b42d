"""`python -m monitoring.prometheus FOLDER` writes the files that Prometheus and Alertmanager read, from the environment's configuration.

Variables: METRICS_TARGETS, METRICS_TOKEN_FILE, CADVISOR_TARGETS, CLUSTER, ALERTMANAGERS, ALERT_WEBHOOK_URL, ALERT_WATCHDOG_URL,
RUNBOOK_URL. docs/observing.md describes each.
"""

from __future__ import annotations

import sys

from .files import write
from .generator import Generator

main = Generator("monitoring.prometheus", __doc__, write, "where rules.yml, alerts.yml, prometheus.yml and alertmanager.yml go")

if __name__ == "__main__":
    sys.exit(main())
