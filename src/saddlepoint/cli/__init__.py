"""The command line: the only place that prints. Nothing heavy is imported before a command is known."""
