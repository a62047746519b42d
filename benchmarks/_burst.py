"""Many scrapers at once at the real exporter, whose merges are counted: the program is the exporter with a counter around `render`."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _fleet import environment

if TYPE_CHECKING:
    from _fleet import Fleet
    from _report import Report

_BURSTS = 5
_REQUEST = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/plain\r\nconnection: close\r\n\r\n"


def burst(report: Report, path: Path, writers: Fleet, scrapers: int) -> tuple[int, float]:
    """Print what bursts cost; give the most merges that one took, and resident memory after the last over that after the first."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        os.set_inheritable(listening.fileno(), True)
        exporter = subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno())],
            env=environment(PROMETHEUS_MULTIPROC_DIR=str(path)),
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
        )
        port = listening.getsockname()[1]
    assert exporter.stdout is not None
    try:
        asyncio.run(_scrape(port, 1))
        writers.change(10)
        before = _seconds(exporter.pid)
        for _ in range(10):
            asyncio.run(_scrape(port, 1))
            writers.change(10)
        alone = (_seconds(exporter.pid) - before) / 10
        os.set_blocking(exporter.stdout.fileno(), False)
        merges, resident = [], []
        _count(exporter)
        before = _seconds(exporter.pid)
        for _ in range(_BURSTS):
            asyncio.run(_scrape(port, scrapers))
            writers.change(10)
            merges.append(_count(exporter))
            assert merges[-1], "no merge was counted: the exporter renders in another way than MergedCollector.render"
            resident.append(_mebibytes(exporter.pid, "VmRSS"))
        together = (_seconds(exporter.pid) - before) / _BURSTS
        peak = _mebibytes(exporter.pid, "VmHWM")
    finally:
        exporter.kill()
        exporter.communicate()
    report.ratio(f"{scrapers} scrapers at once / one, exporter's CPU", [(together, alone)])
    report.figure("exporter's memory, peak", peak, "MiB", note=f"   after each burst: {', '.join(f'{entry:.0f}' for entry in resident)}")
    return max(merges), resident[-1] / resident[0]


async def _scrape(port: int, scrapers: int) -> None:
    """Connect all, ask all at once, and require a whole answer for each."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(scrapers)]
    for _, writer in connections:
        writer.write(_REQUEST)
    for answer in await asyncio.gather(*(reader.read(-1) for reader, _ in connections)):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is None or int(length[1]) == len(body), "an answer was cut off"
        assert body.endswith(b"\n"), "an answer was cut off"
    for _, writer in connections:
        writer.close()


def _count(exporter: subprocess.Popen[bytes]) -> int:
    assert exporter.stdout is not None
    return len(exporter.stdout.read() or b"")


def _seconds(pid: int) -> float:
    """Read another process's CPU time by the clock that clock_getcpuclockid(3) names: /proc counts in hundredths of a second."""
    return time.clock_gettime(~pid << 3 | 2)


def _mebibytes(pid: int, field: str) -> float:
    return int(re.findall(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def main(descriptor: str) -> int:
    """Be the exporter, on a socket that is bound already; write one byte per merge."""
    from monitoring.exporter import __main__
    from monitoring.exporter.listening_socket import FD_VARIABLE
    from monitoring.multiprocess import MergedCollector

    render = MergedCollector.render

    def counted(self: MergedCollector, *arguments: bool, **named: bool) -> bytes:
        os.write(1, b".")
        return render(self, *arguments, **named)

    MergedCollector.render = counted  # type: ignore[method-assign]
    return __main__.main({**os.environ, FD_VARIABLE: descriptor})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
