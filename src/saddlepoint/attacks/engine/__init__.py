"""The loop for a stream of examples: rows that are done are retired and refilled, passes counted, results verified."""
