"""The metrics directory: one module for each kind of file in it."""
