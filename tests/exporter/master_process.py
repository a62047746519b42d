"""A master as gunicorn's is, for tests of the exporter: it reaps every child, forks workers, and executes itself again on USR2.

Usage: master_process.py ADDRESS DIRECTORY. A worker only shows that it let go of the socket, and sleeps.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from monitoring.exporter.listening_socket import bind_socket
from monitoring.exporter.supervisor import Exporter

address, directory = sys.argv[1:3]
# A pipe, as gunicorn has one: of a signal that comes just before a wait begins, a queue would say nothing until the next one.
came, comes = os.pipe()
os.set_blocking(comes, False)
signal.set_wakeup_fd(comes)
for name in ("TERM", "CHLD", "USR1", "USR2"):
    signal.signal(getattr(signal, f"SIG{name}"), lambda *_: None)

exporter = Exporter(bind_socket(address), directory, os.environ.get("METRICS_TOKEN"))
exporter.start()
print("master", os.getpid(), flush=True)

while (number := os.read(came, 1)[0]) != signal.SIGTERM:
    if number == signal.SIGCHLD:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    elif number == signal.SIGUSR1 and os.fork() == 0:
        exporter.forget()
        print("worker", os.getpid(), flush=True)
        signal.pause()
    elif number == signal.SIGUSR2 and os.fork() == 0:
        environment = dict(os.environ)
        exporter.hand_over(environment)
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)

exporter.stop()
print("stopped", os.getpid(), flush=True)
