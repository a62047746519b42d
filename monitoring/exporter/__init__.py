"""The stand-alone metrics server: `python -m monitoring.exporter`."""
