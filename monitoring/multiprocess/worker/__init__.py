"""The slot of this process: its lease, its files and its values."""
