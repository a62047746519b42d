"""GPUs, read once per instance: by one elected worker, or by the exporter; never on an event loop."""
