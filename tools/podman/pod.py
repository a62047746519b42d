"""A running pod. podman runs and restarts its containers; this module does the volumes, the probes and the order of the stop."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from .engine import EngineError, attempt, podman

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .plan import Container, Plan, Probe

_CLEANED_SECONDS = 30


class Pod:
    """The pod of a plan, with its volumes in a folder."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder

    def start(self) -> None:
        """Make the volumes, run one init container after the other, and start the other containers."""
        for volume in self.plan.volumes:
            path = self.folder / volume.name
            path.mkdir()
            if volume.memory_bytes is not None:
                options = f"size={volume.memory_bytes}"
                subprocess.run(["mount", "-t", "tmpfs", "-o", options, self.plan.name, str(path)], check=True)
            if volume.group is not None:
                os.chown(path, -1, volume.group)
            path.chmod(0o777 if volume.group is None else 0o2777)
        for plan in self.plan.before:
            self._play(plan)
            name = f"{plan.name}-{plan.containers[0].name}"
            if (code := podman("wait", name)) != "0":
                raise EngineError(f"the init container {plan.containers[0].name} ended with {code}: {_log(name)}")
        self._play(self.plan)

    def _play(self, plan: Plan) -> None:
        manifest = self.folder / f"{plan.name}.yaml"
        manifest.write_text(yaml.safe_dump_all(plan.documents))
        podman("play", "kube", str(manifest))

    def wait_ready(self) -> None:
        """Wait for the startup probes, and then for the readiness probes. EngineError if a probe keeps failing."""
        for container in self.plan.containers:
            for kind in ("startup", "readiness"):
                if probe := container.probes.get(kind):
                    self._wait(container, kind, probe)

    def _wait(self, container: Container, kind: str, probe: Probe) -> None:
        # A cluster waits for readiness without end; this tool gives up.
        deadline = time.monotonic() + probe.period_seconds * probe.failures * (1 if kind == "startup" else 20)
        while not self.passes(probe):
            if time.monotonic() > deadline:
                raise EngineError(f"the {kind} probe {probe.path} of {container.name} fails; its log:\n{self.log(container.name)}")
            time.sleep(0.05)

    def passes(self, probe: Probe) -> bool:
        """Send one probe, as a kubelet does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.plan.published[probe.port], timeout=probe.timeout_seconds)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", probe.path)
            return 200 <= connection.getresponse().status < 400
        return False

    def stop(self) -> None:
        """Stop the pod as a cluster does: SIGTERM after each pause, to sidecars last, and SIGKILL after the grace period."""
        deadline = time.monotonic() + self.plan.grace_seconds
        for sidecars in (False, True):
            chosen = [container for container in self.plan.containers if container.sidecar == sidecars]
            threads = [threading.Thread(target=self._stop, args=(container, deadline), daemon=True) for container in chosen]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _stop(self, container: Container, deadline: float) -> None:
        time.sleep(max(0.0, min(container.pause_seconds, deadline - time.monotonic())))
        self.terminate(container.name, max(2.0, deadline - time.monotonic()))

    def terminate(self, container: str, seconds: float) -> None:
        """Send SIGTERM, and SIGKILL if the container still runs after `seconds`. It is not restarted."""
        monitor = int(podman("inspect", "--format", "{{.State.ConmonPid}}", self.called(container)))
        attempt("stop", "--time", str(int(seconds)), self.called(container))
        # podman cleans up after the container, and takes a pod whose other containers are being stopped for an ended one, which it stops.
        deadline = time.monotonic() + _CLEANED_SECONDS
        while monitor and _runs(monitor) and time.monotonic() < deadline:
            time.sleep(0.02)

    def remove(self) -> None:
        """Remove the pod and its volumes, in any state."""
        # Stopped first: podman waits three seconds for the control group of a pod that it removes right after its end.
        attempt("pod", "stop", "--time", "0", self.plan.name)
        for plan in (*self.plan.before, self.plan):
            attempt("pod", "rm", "--force", "--time", "0", plan.name)
        for volume in self.plan.volumes:
            path = self.folder / volume.name
            if path.is_mount():
                subprocess.run(["umount", "--lazy", str(path)], check=True)

    def called(self, container: str) -> str:
        """Return podman's name of a container."""
        return f"{self.plan.name}-{container}"

    def pid(self, container: str) -> int:
        """Return the pid of the container's process 1 on this machine; 0 while it does not run."""
        return int(podman("inspect", "--format", "{{.State.Pid}}", self.called(container)))

    def exit_code(self, container: str) -> int:
        """Return the exit code of an ended container."""
        return int(podman("inspect", "--format", "{{.State.ExitCode}}", self.called(container)))

    def run(self, container: str, *command: str) -> str:
        """Run a command in a container, and return its output."""
        return podman("exec", self.called(container), *command)

    def log(self, container: str) -> str:
        """Return the output of a container."""
        return _log(self.called(container))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _log(name: str) -> str:
    done = attempt("logs", name)
    return done.stdout + done.stderr


@contextlib.contextmanager
def running(plan: Plan, folder: Path) -> Iterator[Pod]:
    """Run a pod until the block ends. The block starts once the pod is ready."""
    pod = Pod(plan, folder)
    try:
        pod.start()
        pod.wait_ready()
        yield pod
    finally:
        pod.remove()
