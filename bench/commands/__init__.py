"""The command line: the commands of `lethe`, their flags and their progress display; and the Python interface."""
