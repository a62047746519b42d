"""The sampling thread and the functions that it calls every few seconds."""
