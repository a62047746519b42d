"""A pod that serves, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from prometheus_client.mmap_dict import MmapedDict

from tests.faults.client import Client, Request
from tests.faults.scraper import Samples, http, parse, total
from tests.faults.verdict import HISTOGRAMS, REQUESTS, assert_between
from tests.processes import PATIENCE_SECONDS, is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.client import Address, Tally
    from tools.podman.pod import Pod

COMPRESS = Request("POST", "/v1/compress", body=b"abc" * 100)


@dataclass(frozen=True)
class Served:
    """The pod, and the addresses of its service and of its exporter."""

    pod: Pod
    address: Address
    metrics: Address

    @property
    def scrape(self) -> Callable[[], str]:
        return http(self.metrics)

    @property
    def directory(self) -> Path:
        """The metrics directory, as this machine sees it."""
        return self.pod.folder / "metrics"

    def samples(self) -> Samples:
        return parse(self.scrape())[0]

    def by_worker(self) -> dict[str, float]:
        """Give the requests in each slot's own file."""
        found = {}
        for file in self.directory.glob("counter_s*.db"):
            values = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
            found[file.name] = sum(value for key, value, *_ in values if json.loads(key)[1] == REQUESTS)
        return found

    def client(self, threads: int = 4) -> Client:
        return Client(self.address, [COMPRESS], threads=threads)

    def workers(self) -> list[int]:
        """Give the workers of the service, as this machine numbers them."""
        master = self.pod.pid("api")
        return sorted(map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())) if master else []

    def kill(self, container: str) -> int:
        """Kill -9 what is process 1 in the container, which ends all others there; give what it was."""
        pid = self.pod.pid(container)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), f"process 1 of {container} ended")
        return pid

    def wait_back(self, container: str, former: int) -> None:
        """Wait until podman has started the container again."""
        wait_until(lambda: self.pod.pid(container) not in (0, former), f"{container} runs again")

    def wait_ready(self, workers: int) -> None:
        """Wait until so many workers are shown and the pod is ready."""
        self.pod.wait_ready()
        wait_until(lambda: total(self.samples(), "multiproc_workers") == workers, f"multiproc_workers == {workers}")


class Upload:
    """A request to the service that is under way until it is finished."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, PATIENCE_SECONDS)
        head = f"POST /v1/compress HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {len(COMPRESS.body)}\r\n\r\n"
        self._socket.sendall(head.encode() + COMPRESS.body[:10])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def finish(self) -> int:
        """Send the rest; give the status of the answer, which must be whole."""
        self._socket.sendall(COMPRESS.body[10:])
        answer = b"".join(iter(lambda: self._socket.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower(), head
        return int(head.split(b" ")[1])


def in_progress(samples: Samples) -> float:
    return total(samples, "neurectomy_http_requests_in_progress")


def assert_counted(before: Samples, after: Samples, tally: Tally, more: int = 0) -> None:
    """Hold what was counted between two scrapes against what the client knows, and `more` acknowledged requests."""
    acknowledged, sent = tally.acknowledged[COMPRESS.key] + more, tally.sent[COMPRESS.key] + more
    assert acknowledged > 20, f"only {acknowledged} requests were answered: the load proves nothing"
    labels = dict(zip(("method", "endpoint"), COMPRESS.key, strict=True))
    for name in (REQUESTS, *(f"{each}_count" for each in HISTOGRAMS)):
        counted = total(after, name, **labels) - total(before, name, **labels)
        assert_between(acknowledged, counted, sent, name)
