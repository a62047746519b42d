"""`python -m monitoring.grafana [FOLDER]` writes the dashboards, one JSON file each; RUNBOOK_URL names where the runbooks are served."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from monitoring.prometheus import Configuration, ConfigurationError

from .files import write


def main(arguments: list[str] | None = None) -> int:
    """Write the files; give the exit code, with one line on stderr where it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.grafana", description=__doc__.splitlines()[0])
    beside = Path(__file__).with_name("dashboards")
    parser.add_argument("folder", type=Path, nargs="?", default=beside, help="where the JSON files go (dashboards/ beside the module)")
    folder = parser.parse_args(arguments).folder
    try:
        write(Configuration.read(os.environ), folder)
    except ConfigurationError as error:
        print(f"monitoring.grafana: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"monitoring.grafana: the dashboards cannot be written into {folder}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
