"""Changes that `install()` makes to prometheus_client's classes."""
