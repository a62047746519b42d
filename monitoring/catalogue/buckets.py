"""Bucket bounds that several families share, in seconds and bytes."""

HTTP_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)
WORK_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
