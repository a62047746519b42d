"""Imported first by commands such as `python -m app.vault`: they are no workers, so nothing that they do is written where workers count.

prometheus_client looks at the variable when it is first imported, and would leave a file of the command's pid there: in the service's
directory, or, where the variable is empty, in the working directory.
"""

import os

os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
os.environ.pop("prometheus_multiproc_dir", None)  # its former name, which counts as well
