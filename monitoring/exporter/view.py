"""The merged view of the service's metrics directory."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from monitoring.multiprocess import library_families, paths
from monitoring.scrape.response import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from monitoring.multiprocess import MergedCollector

_WORKERS = library_families.WORKERS
_NO_WORKER = f"# HELP {_WORKERS.name} {_WORKERS.help}\n# TYPE {_WORKERS.name} {_WORKERS.type}\n{_WORKERS.sample} 0.0\n".encode()


class View:
    """The merged view of the directory. A directory that replaces it gets a view of its own."""

    def __init__(self, locate: Callable[[], Path], given: Callable[[], Iterable[Metric]]) -> None:
        """`locate` finds the directory, which need not exist yet; `given` returns families to show beside those of the directory."""
        self._locate = locate
        self._given = given
        self._collector: MergedCollector | None = None
        self._fd: int | None = None

    def render(self, openmetrics: bool) -> bytes:
        """Merge once, for one thread at a time. Raise Unavailable while the directory is missing."""
        from monitoring.multiprocess import DirectoryError, MergedCollector

        path: Path | None = None
        try:
            path = self._locate()
            if self._fd is None or not os.path.samestat(path.stat(), os.fstat(self._fd)):
                self._renew(path)
            if self._collector is None:
                self._collector = MergedCollector(None, str(path), given=self._given)
        except DirectoryError as error:
            raise Unavailable(str(error)) from None
        except (OSError, ValueError):
            reason = f"the metrics directory {path} is missing: its service has not started, or the directory was removed"
            raise Unavailable(reason) from None
        shown = self._collector.render(openmetrics)
        return _NO_WORKER + shown if _is_unused(path) else shown

    def _renew(self, path: Path) -> None:
        """Hold another directory open: as long as it is, a new directory cannot get the same inode."""
        self._collector = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_unused(path: Path) -> bool:
    """Whether no worker has written yet. Then `multiproc_workers 0` shows an operator that the service has not started."""
    with suppress(OSError):
        return not (path / paths.LOCK).exists() and not any(map(paths.is_value_file, os.listdir(path)))
    return False
