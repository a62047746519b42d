"""On a directory of upstream's own pid files, the merged view gives the samples that upstream's collector gives."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
