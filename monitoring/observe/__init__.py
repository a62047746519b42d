"""Prometheus and Alertmanager beside a service: `python -m monitoring.observe`."""
