"""`python -m monitoring.grafana [FOLDER]` writes the dashboards, one JSON file each; RUNBOOK_URL is the address of the runbooks."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.prometheus.generator import Generator

from .files import write

main = Generator(
    "monitoring.grafana",
    __doc__,
    write,
    "where the JSON files go (dashboards/ beside the module)",
    default=Path(__file__).with_name("dashboards"),
    product="dashboards",
)

if __name__ == "__main__":
    sys.exit(main())
