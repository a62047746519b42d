"""What the manifests in k8s/ take from monitoring.prometheus: its rules for the Prometheus operator, and a scrape configuration for pods.

`python -m monitoring.kubernetes` writes those files. Needs the extra `observe`.
"""
