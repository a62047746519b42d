"""Dashboards for Grafana, made from code and from the same configuration as the rules and alerts.

`python -m monitoring.grafana` writes them into `dashboards/` beside this module, ready to import. Needs the extra `observe`.
"""
