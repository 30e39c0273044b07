"""How a run folder survives: files, locks, shards of rows, points; written and read. No torch."""
