"""The files of all processes, merged into one result."""
