"""Keeps commands such as `python -m app.vault` out of the metrics directory. They import this module first, since they are not workers.

prometheus_client reads the variable when it is first imported, and would write a file with the command's pid into the service's
directory, or, if the variable is empty, into the working directory.
"""

import os

os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
os.environ.pop("prometheus_multiproc_dir", None)  # its former name, which is still read
