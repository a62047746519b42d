"""Every family under its own name. Importing this module declares all of them."""

from typing import TYPE_CHECKING

from prometheus_client.metrics import MetricWrapperBase

from .agents import *
from .breaker import *
from .business import *
from .declaration import FAMILIES as FAMILIES
from .declaration import Family as Family
from .declaration import Rule as Rule
from .gpu import *
from .http import *
from .ryot import *
from .sigmalang import *
from .sigmavault import *
from .system import *

if not TYPE_CHECKING:
    # Type checkers export only what each module defines. At run time a star also brings the names that it imported.
    __all__ = ["FAMILIES", "Family", "Rule", *(name for name, value in globals().items() if isinstance(value, MetricWrapperBase))]
