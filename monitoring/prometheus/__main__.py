"""`python -m monitoring.prometheus FOLDER` writes the files that Prometheus and Alertmanager read, as the environment says.

Variables: METRICS_TARGETS, METRICS_TOKEN_FILE, CADVISOR_TARGETS, CLUSTER, ALERTMANAGERS, ALERT_WEBHOOK_URL, ALERT_WATCHDOG_URL,
RUNBOOK_URL; docs/observing.md says what each is.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .configuration import Configuration, ConfigurationError
from .files import write


def main(arguments: list[str] | None = None) -> int:
    """Write the files; give the exit code, with one line on stderr where it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.prometheus", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where rules.yml, alerts.yml, prometheus.yml and alertmanager.yml go")
    folder = parser.parse_args(arguments).folder
    try:
        write(Configuration.read(os.environ), folder)
    except ConfigurationError as error:
        print(f"monitoring.prometheus: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"monitoring.prometheus: the files cannot be written into {folder}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
