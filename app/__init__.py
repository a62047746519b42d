"""The Neurectomy API: the service that uses the library."""

__version__ = "0.1.0"
