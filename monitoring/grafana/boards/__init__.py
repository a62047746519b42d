"""Dashboards, one file a board."""
