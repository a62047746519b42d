"""The Neurectomy API: the service that the deployment kit runs."""

__version__ = "0.1.0"
