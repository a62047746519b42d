"""The base of errors that callers of the service see."""

from __future__ import annotations


class ReasonError(Exception):
    """An error with a text for people, and with `reason`, one fixed word for programs.

    The head of a class names its word: `class DatabaseFullError(StoreError, reason="database_full")`.
    """

    reason = ""

    def __init_subclass__(cls, reason: str = "") -> None:
        super().__init_subclass__()
        cls.reason = reason or cls.reason

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or self.reason
