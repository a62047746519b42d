"""Tests mirror the packages; tests/faults kills real servers."""
