"""Tests mirror the tree; tests/faults kills real servers."""
