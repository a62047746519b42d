"""The command that writes generated files: `python -m monitoring.prometheus`, `monitoring.grafana`, `monitoring.kubernetes`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .configuration import Configuration, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def write(texts: dict[str, str], folder: Path, mode: int | None = None) -> None:
    """Write each text to its path in a folder, with this mode if one is given. OSError where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if mode is not None:
            path.chmod(mode)


@dataclass(frozen=True)
class Generator:
    """The `main` of one generator: reads the configuration from the environment and writes its files into a folder.

    `missing` is the message where the folder must exist and does not.
    """

    program: str
    description: str
    write: Callable[[Configuration, Path], None]
    folder: str
    default: Path | None = None
    product: str = "files"
    missing: str = ""

    def __call__(self, arguments: list[str] | None = None) -> int:
        """Return the exit code, after one line on stderr where it is not 0."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.program}", description=self.description.splitlines()[0])
        parser.add_argument("folder", type=Path, nargs=None if self.default is None else "?", default=self.default, help=self.folder)
        folder = parser.parse_args(arguments).folder
        try:
            if self.missing and not folder.is_dir():
                raise ConfigurationError(self.missing.format(folder))
            self.write(Configuration.read(os.environ), folder)
        except ConfigurationError as error:
            fault = str(error)
        except OSError as error:
            fault = f"the {self.product} cannot be written into {folder}: {error.strerror}"
        else:
            return 0
        print(f"{self.program}: {fault}", file=sys.stderr)
        return 1
