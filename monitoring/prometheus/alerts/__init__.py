"""Alerts, one file a subject."""
