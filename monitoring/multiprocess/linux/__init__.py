"""Linux primitives: mappings, locks, file owners. Knows nothing of metrics."""
