"""The pod of k8s/overlays/local, as podman runs it: hardened, killed, full and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import fetch
from tests.faults.scraper import Samples, Scraper, total
from tests.faults.test_full_disk import fill
from tests.faults.verdict import REQUESTS
from tests.processes import wait_dead, wait_until
from tools.podman.engine import EngineError, podman

from .conftest import NAMES, container_of
from .served import COMPRESS, Upload, assert_counted, in_progress
from .test_image import health_check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.podman.plan import Document

    from .conftest import Serving
    from .served import Served

EMPTY = Samples({})
DROPPED = "multiproc_dropped_observations_total"


@pytest.fixture(scope="module")
def served(serving: Serving) -> Iterator[Served]:
    """Run one pod for all that leaves it as it was."""
    with serving() as made:
        made.wait_ready(2)
        yield made


def test_the_exporter_sees_all_workers_of_the_other_container(served: Served) -> None:
    before, alone = served.samples(), served.by_worker()
    with served.client() as client:
        wait_until(lambda: sum(value > alone.get(file, 0) for file, value in served.by_worker().items()) >= 2, "two workers have counted")
        client.wait_answered(100)
    assert set(client.tally.statuses) == {200}
    after = served.samples()
    assert_counted(before, after, client.tally)
    assert sum(served.by_worker().values()) == total(after, REQUESTS)


@pytest.mark.parametrize("container", ["api", "exporter"])
def test_a_container_has_no_rights(served: Served, container: str) -> None:
    """Of process 1, not of what is executed beside it."""
    status = dict(line.split(":\t", 1) for line in served.pod.run(container, "cat", "/proc/1/status").splitlines())
    assert {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert (status["Uid"].split(), status["Gid"].split()) == (["10001"] * 4, ["10001"] * 4)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = next(line for line in served.pod.run(container, "cat", "/proc/self/mounts").splitlines() if line.split()[1] == "/")
    assert "ro" in root.split()[3].split(",")
    for path in ("/new", "/srv/neurectomy/new", "/opt/venv/new"):
        with pytest.raises(EngineError, match="Read-only file system"):
            served.pod.run(container, "touch", path)
    started = served.pod.run(container, "cat", "/proc/1/cmdline").split("\0")
    assert started[1].endswith("/gunicorn") if container == "api" else started[1:3] == ["-m", "monitoring.exporter"]


def test_probes_pass_and_one_of_a_service_that_stands_still_does_not(served: Served) -> None:
    probes = {(container.name, kind): probe for container in served.pod.plan.containers for kind, probe in container.probes.items()}
    assert probes.keys() >= {("api", "startup"), ("api", "readiness"), ("api", "liveness"), ("exporter", "liveness")}
    for key, probe in probes.items():
        wait_until(lambda probe=probe: served.pod.passes(probe), f"{key} passes")  # type: ignore[misc]
    podman("pause", served.pod.called("api"))
    try:
        assert not served.pod.passes(probes["api", "liveness"])
        wait_until(lambda: served.pod.passes(probes["exporter", "liveness"]), "the exporter's passes: it is not the service that it asks")
    finally:
        podman("unpause", served.pod.called("api"))
    wait_until(lambda: served.pod.passes(probes["api", "readiness"]), "it is ready again")


def test_the_images_own_health_check_passes(served: Served, image: str) -> None:
    assert served.pod.run("api", *health_check(image)) == ""


def test_full_metrics_volume(served: Served) -> None:
    """No request fails and no worker ends, also not one that starts meanwhile; what is not counted is counted as refused."""
    workers, before = served.workers(), served.samples()
    with Scraper(served.scrape) as scraper, served.client() as client:
        client.wait_answered(50)
        filler = fill(served.directory)
        try:
            client.wait_answered(50)
            # More new series than there is room for in the files as they are.
            paths = [path for path, methods in json.loads(fetch(served.address, "/openapi.json").body)["paths"].items() if "get" in methods]
            statuses = {fetch(served.address, path.replace("{", "").replace("}", "")).status for path in paths}
            assert max(statuses) < 500, statuses
            assert total(served.samples(), DROPPED) > total(before, DROPPED), "series that are new have found room"
            os.kill(served.pod.pid("api"), signal.SIGTTIN)
            wait_until(lambda: len(served.workers()) == 3, "a third worker has started")
            client.wait_answered(200)
            assert set(workers) < set(served.workers()), "no worker died"
        finally:
            filler.unlink()
        wait_until(lambda: served.by_worker().get("counter_s2.db"), "the third worker counts")
        os.kill(served.pod.pid("api"), signal.SIGTTOU)
        wait_until(lambda: len(served.workers()) == 2, "it has ended again")
    scraper.check()
    assert set(client.tally.statuses) == {200}, client.tally.statuses
    served.wait_ready(2)
    after, labels = served.samples(), {"method": "POST", "endpoint": "/v1/compress"}
    counted, dropped = (total(after, name, **pairs) - total(before, name, **pairs) for name, pairs in ((REQUESTS, labels), (DROPPED, {})))
    acknowledged, sent = client.tally.acknowledged[COMPRESS.key], client.tally.sent[COMPRESS.key]
    assert counted <= sent
    assert acknowledged <= counted + dropped, "lost, and not counted as refused"
    wait_until(lambda: in_progress(served.samples()) == 0, "no request is under way, also none whose begin found no room")


def test_killed_service(served: Served, repeat: int) -> None:
    """It is back; the exporter serves all the time, first all of the old run, then the new one only."""
    del repeat
    served.wait_ready(2)
    before = served.samples()
    with served.client() as client:
        client.wait_answered(100)
    last = served.samples()
    assert_counted(before, last, client.tally)
    with contextlib.ExitStack() as stack:
        scraper = stack.enter_context(Scraper(served.scrape))
        scraper.monotone = False
        for _ in range(4):
            stack.enter_context(Upload(served.address))
        wait_until(lambda: in_progress(served.samples()) >= 4, "requests are under way")
        former = served.kill("api")
        dead = len(scraper.history) + 1  # but for the scrape that is under way
        served.wait_back("api", former)
        served.wait_ready(2)
        with served.client() as client:
            client.wait_answered(100)
        after = served.samples()
    scraper.check()
    assert in_progress(after) == 0, "of requests that ended with their workers"
    assert_counted(EMPTY, after, client.tally)
    whole = total(last, REQUESTS, endpoint="/v1/compress")
    # As long as the exporter shows the old run, nothing of it lives any more.
    ended = [samples for samples in scraper.history[dead:] if total(samples, REQUESTS, endpoint="/v1/compress") == whole]
    assert {(total(samples, "multiproc_workers"), in_progress(samples)) for samples in ended} <= {(0, 0)}
    falls, previous = 0, 0.0
    for samples in scraper.history:
        assert total(samples, "multiproc_workers") <= 2, "a worker that is dead is shown"
        counted = total(samples, REQUESTS, endpoint="/v1/compress")
        if counted < previous:
            falls += 1
            assert (previous, counted <= client.tally.sent[COMPRESS.key]) == (whole, True), "a scrape with a part of the old run"
        previous = counted
    assert falls == 1


def test_killed_exporter(served: Served, repeat: int) -> None:
    """It is back; no request and no count is lost."""
    del repeat
    served.wait_ready(2)
    before = served.samples()
    with Scraper(served.scrape) as scraper, served.client() as client:
        client.wait_answered(50)
        with scraper.outage():
            former = served.kill("exporter")
            served.wait_back("exporter", former)
            wait_until(lambda: _answers(served), "it answers")
        client.wait_answered(50)
    scraper.check()
    assert set(client.tally.statuses) == {200}
    assert client.tally.refused == 0
    assert_counted(before, served.samples(), client.tally)


def _answers(served: Served) -> bool:
    try:
        return bool(served.samples())
    except OSError:
        return False


def stops(spec: Document, *, pause_seconds: int, linger_seconds: int) -> None:
    """Have the service and the exporter go on for so long when the pod is to stop."""
    container_of(spec, "api")["lifecycle"]["preStop"]["sleep"]["seconds"] = pause_seconds
    next(each for each in container_of(spec, "exporter")["env"] if each["name"] == "METRICS_LINGER")["value"] = str(linger_seconds)


@pytest.fixture
def small(serving: Serving) -> Iterator[Served]:
    """Run a pod whose memory has room for one worker, though there are processors for more; it stops at once."""

    def change(spec: Document) -> None:
        container_of(spec, "api")["resources"]["limits"]["memory"] = "400Mi"
        stops(spec, pause_seconds=0, linger_seconds=0)

    with serving(change, WORKER_MEMORY_MB="300") as made:
        yield made


def test_memory_limit_and_stop_under_load(small: Served, repeat: int) -> None:
    """A worker that takes too much is killed alone, and what it has counted stays; a stop lets every request end, and counts it."""
    del repeat
    small.wait_ready(1)
    assert len(os.sched_getaffinity(0)) > 1 or len(small.workers()) == 1
    with Scraper(small.scrape) as scraper, small.client() as client:
        client.wait_answered(50)
        (victim,) = small.workers()
        master = small.pod.pid("api")
        with contextlib.suppress(EngineError):  # it may be killed as well, before it has seen that the worker is gone
            small.pod.run("api", "python", "-c", EAT, f"/proc/{inside(victim)}")
        wait_dead(victim)
        client.wait_answered(50)
        assert small.pod.pid("api") == master, "the container goes on"
        small.wait_ready(1)
        with Upload(small.address) as upload:
            wait_until(lambda: in_progress(small.samples()) >= 1, "a request is under way")
            with ThreadPoolExecutor(1) as stopping:
                stopped = stopping.submit(small.pod.terminate, "api", small.pod.plan.grace_seconds)
                wait_until(lambda: client.refused > 0, "no new connection is taken")
                assert not stopped.done()
                assert upload.finish() == 200
                stopped.result()
    scraper.check()
    assert set(client.tally.statuses) == {200}
    assert_counted(EMPTY, small.samples(), client.tally, more=1)
    assert total(small.samples(), "multiproc_workers") == 0
    small.pod.stop()
    assert [small.pod.exit_code(container) for container in ("api", "exporter")] == [0, 0]


def test_rollout_under_load(served: Served, serving: Serving, repeat: int) -> None:
    """An old pod ends beside a new one: no request fails or is refused, and the last scrape of the old pod has all that it has answered."""
    del repeat

    def change(spec: Document) -> None:
        stops(spec, pause_seconds=10, linger_seconds=60)

    with serving(change) as old:
        old.wait_ready(2)
        with served.client() as others, contextlib.ExitStack() as scraping:
            scraper = scraping.enter_context(Scraper(old.scrape))
            with old.client() as client, ThreadPoolExecutor(1) as stopping:
                client.wait_answered(100)
                # As in a cluster, where proxies go on for a while with a pod that has begun to stop; the pause outlasts that.
                stopped = stopping.submit(old.pod.stop)
                time.sleep(2)
                client.stop()
                wait_until(lambda: old.pod.pid("api") == 0, "the service has ended")
                ended = len(scraper.history) + 1
                wait_until(lambda: len(scraper.history) > ended, "a scrape that began afterwards")
                scraping.close()
                # A second one: nobody comes by any more. podman itself kills nobody that it is stopping.
                os.kill(old.pod.pid("exporter"), signal.SIGTERM)
                stopped.result()
        scraper.check()
        assert [old.pod.exit_code(container) for container in ("api", "exporter")] == [0, 0]
    for each in (client, others):
        assert each.tally.sent == each.tally.acknowledged, "a request was not answered"
        assert (set(each.tally.statuses), each.tally.refused) == ({200}, 0)
    last = scraper.history[-1]
    assert total(last, "multiproc_workers") == 0, "the last scrape was not after the service's end"
    assert_counted(EMPTY, last, client.tally)


EAT = """
import pathlib, sys
worker = pathlib.Path(sys.argv[1])
(worker / "oom_score_adj").write_text("1000")
pieces = []
while worker.exists() and len(pieces) < 1000:  # more than the limit, and less than this machine has
    pieces.append(b"x" * 2**20)
"""
"""Takes all memory that the limit leaves, while the kernel kills the worker first."""


def inside(pid: int) -> int:
    """Give a process's number in its container."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def test_an_init_container_that_fails_is_named_with_its_own_words(serving: Serving) -> None:
    before = pods()
    with pytest.raises(EngineError, match=r"the init container .* ended with 1: .*BIND='nowhere' is not allowed"), serving(BIND="nowhere"):
        pass
    assert pods() == before


def pods() -> list[str]:
    return sorted(name for name in podman("pod", "ls", "--format={{.Name}}").split() if name.startswith(NAMES))
