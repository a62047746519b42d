"""The catalogue: every family of the service, declared once, one file a subject."""
