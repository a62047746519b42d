"""The parts of k8s/ that come from monitoring.prometheus: rules for the Prometheus operator, and a scrape configuration for pods.

`python -m monitoring.kubernetes` writes those files. Needs the extra `observe`.
"""
