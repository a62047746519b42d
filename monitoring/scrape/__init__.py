"""The response to a scrape, shared by the exporter and the application's `/metrics`."""
