"""`python -m monitoring.kubernetes [FOLDER]` writes the manifests that are generated from monitoring.prometheus into k8s/.

CLUSTER and RUNBOOK_URL mean the same as for `python -m monitoring.prometheus`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.prometheus.generator import Generator

from .files import write

main = Generator(
    "monitoring.kubernetes",
    __doc__,
    write,
    "the folder with components/ (k8s/ beside monitoring/)",
    default=Path(__file__).parents[2] / "k8s",
    missing="{}: not a folder. Name k8s/ of a checkout of this repository.",
)

if __name__ == "__main__":
    sys.exit(main())
