"""The catalogue: every family of the service, declared once, in one module for each subject."""
