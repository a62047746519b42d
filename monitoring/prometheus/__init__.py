"""What Prometheus and Alertmanager need beside the service: rules, alerts, scraping and notification, from one configuration.

`python -m monitoring.prometheus` writes the four files; the ones beside this module are those of the defaults. Needs the extra `observe`.
"""

from .configuration import Configuration, ConfigurationError, Times

__all__ = ["Configuration", "ConfigurationError", "Times"]
