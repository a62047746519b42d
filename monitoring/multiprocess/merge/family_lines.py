"""One family of the merged result: its name and type, its lines, and its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.multiprocess import text_format

if TYPE_CHECKING:
    from monitoring.multiprocess.storage.declarations import Family

    Labels = tuple[tuple[str, str], ...]
    Kind = tuple[str, str]


class FamilyLines:
    """A family and its lines, in the order in which they were added."""

    def __init__(self, name: str, stored_as: Kind, text: str, declared: Family | None) -> None:
        self.name = name
        self.stored_as = stored_as
        self.type = declared.type if declared else stored_as[0]
        self.help = text
        self.declared = declared
        self.described = self.type in ("info", "stateset")
        self.bounds = sorted(map(float, declared.buckets)) if declared else []
        self.heads = {style: text_format.head(name, self.type, text, openmetrics=style).encode() for style in (False, True)}
        #: The number of each line in the layout, and its text.
        self.lines: list[int] = []
        self.line_texts: list[str] = []
        #: The number of each line by `text_format.identity`.
        self.by_identity: dict[str, int] = {}
        #: Histograms: the line of the first bucket of each label set, and its bounds.
        self.blocks: dict[Labels, tuple[int, list[float]]] = {}
        #: Info and Enum: the lines of each label set of the metric itself.
        self.groups: dict[Labels, list[int]] = {}
        #: The exposition in each format, as long as no line changes.
        self.texts: dict[bool, bytes] = {}

    def text(self, *, openmetrics: bool) -> bytes:
        """Return the family's exposition: nothing where it is not declared and has no value."""
        text = self.texts.get(openmetrics)
        if text is None:
            lines = "".join(self.line_texts).encode()
            text = self.texts[openmetrics] = self.heads[openmetrics] + lines if lines or self.declared else b""
        return text
