"""What ΣLANG makes of documents: `python benchmarks/compression.py` prints ratios, and what long bodies cost in memory.

Ratios: small documents that resemble each other, with random ids; a dictionary is trained on one half and used on the other, over HTTP.
Memory: the highest that the only worker ever held while a body of `--mib` went through compress and decompress, less what it held before.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path
from random import Random
from time import perf_counter
from typing import IO, TYPE_CHECKING

from _documents import orders
from _fleet import directory
from _report import Report
from _service import Service, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
RATIO_BAR = 5
GROWTH_BAR_MIB = 64


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--documents", type=int, default=2000)
    options.add_argument("--mib", type=int, default=1024, help="size of a long body; 0 leaves this part out")
    options.add_argument("--bar", action="store_true", help="exit with 1 where a figure misses its bar")
    chosen = options.parse_args()
    report = Report()
    with directory() as metrics, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with service(metrics, 1, DATA_DIR=folder) as running:
            ratios(report, running, orders(chosen.documents))
        if chosen.mib:
            for kind, make in BODIES.items():
                # A worker of its own for each: what the allocator keeps of one body would hide what another needs.
                with service(metrics, 1, DATA_DIR=folder) as running:
                    long_body(report, running, kind, make, chosen.mib, Path(folder))
    sys.exit(report.code(enforced=chosen.bar))


def ratios(report: Report, running: Service, documents: list[bytes]) -> None:
    """Print the median ratio of one half with a dictionary that was trained on the other, and without."""
    half = len(documents) // 2
    given = json.dumps({"samples": [base64.b64encode(document).decode() for document in documents[:half]]}).encode()
    dictionary = json.loads(post(running, "/v1/dictionaries", given, 201))["id"]
    size = statistics.median(map(len, documents))
    report.head(
        f"documents of {size:.0f} bytes (median; at most {max(map(len, documents))}), {half} to train on, {len(documents) - half} measured"
    )
    for level in (3, 19):
        for what, parameter in (("without a dictionary", ""), ("with a dictionary", f"&dictionary={dictionary}")):
            made = []
            for document in documents[half:]:
                frame = post(running, f"/v1/compress?level={level}{parameter}", document)
                made.append(len(document) / len(frame))
            assert post(running, f"/v1/decompress?{parameter}", frame) == document
            bar = RATIO_BAR if parameter and level == 3 else None
            report.ratio(f"level {level}, {what}", [(each, 1.0) for each in made], at_least=bar, milli=False)


def long_body(report: Report, running: Service, kind: str, make: Callable[[], Callable[[], bytes]], mib: int, folder: Path) -> None:
    """Send one long body there and back, and print what it took."""
    (worker,) = running.workers()
    report.head(f"a body of {mib} MiB, {kind}, there and back")
    post(running, "/v1/decompress", post(running, "/v1/compress", b"what is made at first use is made"))
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # the kernel notes the highest again from here on
    before = memory(worker, "VmRSS")
    digest = hashlib.sha256()

    def document() -> Iterator[bytes]:
        piece = make()
        for _ in range(mib):
            made = piece()
            digest.update(made)
            yield made

    frame = folder / "frame"
    with frame.open("wb") as file:
        seconds, _ = exchange(running, "/v1/compress", document(), file)
    report.figure("compress", mib / seconds, "MiB/s", note=f", {mib * MIB / frame.stat().st_size:.1f} times smaller")
    with frame.open("rb") as file:
        seconds, restored = exchange(running, "/v1/decompress", iter(lambda: file.read(MIB), b""), None)
    assert restored == digest.hexdigest(), "what came back is another document"
    report.figure("decompress", mib / seconds, "MiB/s")
    growth = (memory(worker, "VmHWM") - before) / MIB
    report.figure("growth of the worker's memory, at its highest", growth, "MiB", at_most=GROWTH_BAR_MIB)


def _random() -> Callable[[], bytes]:
    source = Random(1)
    return lambda: source.randbytes(MIB)


def _texts() -> Callable[[], bytes]:
    text = b"\n".join(orders(1200))
    return lambda: text[:MIB]


def _zeros() -> Callable[[], bytes]:
    return lambda: bytes(MIB)


BODIES = {"random bytes": _random, "texts": _texts, "zeros": _zeros}


def memory(pid: int, field: str) -> int:
    """Give one of the kernel's figures about a process, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def post(running: Service, path: str, body: bytes, status: int = 200) -> bytes:
    """Send a short body; give the answer's."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=120)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        content = answer.read()
    assert answer.status == status, content
    return content


def exchange(running: Service, path: str, body: Iterator[bytes], into: IO[bytes] | None) -> tuple[float, str]:
    """Send all of a long body, then read the answer; give the seconds and the answer's hash."""
    began = perf_counter()
    digest = hashlib.sha256()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=600)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/octet-stream"}, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        while piece := answer.read(MIB):
            digest.update(piece)
            if into is not None:
                into.write(piece)
    return perf_counter() - began, digest.hexdigest()


if __name__ == "__main__":
    main()
