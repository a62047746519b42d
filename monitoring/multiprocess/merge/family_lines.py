"""One family of the view: what it is, its lines, and its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.multiprocess import text_format

if TYPE_CHECKING:
    from monitoring.multiprocess.storage.declarations import Family

    Labels = tuple[tuple[str, str], ...]
    Kind = tuple[str, str]


class FamilyLines:
    """One family of the view and its lines, in the order in which they came."""

    def __init__(self, name: str, stored_as: Kind, text: str, declared: Family | None) -> None:
        self.name = name
        self.stored_as = stored_as
        self.type = declared.type if declared else stored_as[0]
        self.help = text
        self.declared = declared
        self.described = self.type in ("info", "stateset")
        self.bounds = sorted(map(float, declared.buckets)) if declared else []
        self.heads = {style: text_format.head(name, self.type, text, openmetrics=style).encode() for style in (False, True)}
        self.cells: list[int] = []
        self.lines: list[str] = []
        #: The cell of each line, by `render.identity`.
        self.by_identity: dict[str, int] = {}
        #: Histograms: the cell of the first bucket of each label set, and its bounds.
        self.blocks: dict[Labels, tuple[int, list[float]]] = {}
        #: Info and Enum: the cells of each label set of the metric itself.
        self.groups: dict[Labels, list[int]] = {}
        #: What it exposes in each format, as long as no line has changed.
        self.texts: dict[bool, bytes] = {}

    def text(self, *, openmetrics: bool) -> bytes:
        """Everything the family exposes; nothing where it is not declared and has no value."""
        text = self.texts.get(openmetrics)
        if text is None:
            lines = "".join(self.lines).encode()
            text = self.texts[openmetrics] = self.heads[openmetrics] + lines if lines or self.declared else b""
        return text
