"""How many samples a scrape of the service has after the load script, and which families and labels they come from.

Starts the real service, sends the mix of `make load` over all its endpoints, scrapes once. What is counted is what Prometheus stores:
every bucket, sum and count of a histogram is a sample.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from _fleet import ROOT, environment
from _service import get, service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.samples import Sample


def main() -> None:
    """Count and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--requests", type=int, default=2000)
    chosen = options.parse_args()
    from prometheus_client.parser import text_string_to_metric_families as parse

    body = scrape(chosen.workers, chosen.requests)
    families = {family.name: family.samples for family in parse(body.decode()) if family.samples}
    total = sum(map(len, families.values()))
    size = f"{total} samples of {len(families)} families, {len(body) / 1024:.0f} KiB as text"
    print(f"{chosen.workers} workers, {chosen.requests} requests: {size}\n")
    print(f"{'family':<52} {'samples':>8} {'share':>6}   values of its labels")
    for name, samples in sorted(families.items(), key=lambda each: -len(each[1]))[:12]:
        print(f"{name:<52} {len(samples):>8} {len(samples) / total:>6.0%}   {values(samples)}")


def values(samples: Iterable[Sample]) -> str:
    """Say how many values each label has."""
    found = {(label, value) for sample in samples for label, value in sample.labels.items()}
    return ", ".join(f"{label} {count}" for label, count in sorted(Counter(label for label, _ in found).items()))


def scrape(workers: int, requests: int, *, keep: Path | None = None) -> bytes:
    """Run the service and the load, and give one scrape of its exporter; `keep` gets a copy of the metrics directory as it was then."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    settings = {"DATA_DIR": str(folder), "VAULT_KEY_FILE": str(folder / "vault.key")}
    try:
        (folder / "metrics").mkdir(mode=0o700)
        for command in (("app.vault", "create"), ("app.migrate",)):
            subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment(**settings), check=True, stdout=subprocess.DEVNULL)
        with service(folder / "metrics", workers, **settings) as served:
            load = [
                sys.executable,
                "-m",
                "tools.load",
                "--url",
                f"http://127.0.0.1:{served.port}",
                "--requests",
                str(requests),
                "--restore",
            ]
            done = subprocess.run(load, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            body = get(served.metrics_port, "/metrics")
            if keep:
                shutil.copytree(folder / "metrics", keep, ignore=shutil.ignore_patterns("*.sock"))
            return body
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
