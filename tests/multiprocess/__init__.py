"""Tests of the generic core."""
