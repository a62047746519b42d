"""Metrics that one elected worker shows for the whole service."""
