"""Real servers under real faults: what a client was told is what the counters say."""
