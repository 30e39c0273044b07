"""The loop for a stream of examples: retire rows that are done, refill them, count passes, verify."""
