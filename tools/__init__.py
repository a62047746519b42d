"""Developers' tools: not in the wheel."""
