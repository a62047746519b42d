"""Something that listens where workers look for the exporter, and says what a test wants it to say."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

from monitoring.scrape import worker_socket
from monitoring.scrape.worker_socket import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TEMPORARY = "impostor.tmp"


@contextlib.contextmanager
def impostor(directory: Path, says: bytes) -> Iterator[None]:
    """Take the exporter's place, say something to everybody, and close."""
    with socket.socket(socket.AF_UNIX) as listening, worker_socket._opened(directory) as fd:
        listening.bind(worker_socket._path(fd, _TEMPORARY))
        listening.listen(16)
        os.replace(_TEMPORARY, NAME, src_dir_fd=fd, dst_dir_fd=fd)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        client.recv(1 << 16)
                        client.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
