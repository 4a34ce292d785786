"""Turn a world into tasks: which concepts to forget, and which to keep."""
