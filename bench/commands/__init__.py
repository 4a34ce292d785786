"""The command line: `lethe` itself, its arguments and progress, and the commands beside it."""
