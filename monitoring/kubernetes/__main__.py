"""`python -m monitoring.kubernetes [FOLDER]` writes the manifests that are made from monitoring.prometheus into k8s/.

CLUSTER and RUNBOOK_URL mean what they mean for `python -m monitoring.prometheus`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from monitoring.prometheus import Configuration, ConfigurationError

from .files import write


def main(arguments: list[str] | None = None) -> int:
    """Write the files; give the exit code, with one line on stderr where it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.kubernetes", description=__doc__.splitlines()[0])
    beside = Path(__file__).parents[2] / "k8s"
    parser.add_argument("folder", type=Path, nargs="?", default=beside, help="the folder with components/ (k8s/ beside monitoring/)")
    folder = parser.parse_args(arguments).folder
    if not folder.is_dir():
        print(f"monitoring.kubernetes: there is no folder {folder}: name k8s/ of a checkout of this repository", file=sys.stderr)
        return 1
    try:
        write(Configuration.read(os.environ), folder)
    except ConfigurationError as error:
        print(f"monitoring.kubernetes: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"monitoring.kubernetes: the files cannot be written into {folder}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
