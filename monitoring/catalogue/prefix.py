"""The prefix of every family. It is a module of its own for importers that must not declare the families."""

PREFIX = "neurectomy_"
