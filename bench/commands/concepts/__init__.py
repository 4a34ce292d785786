"""Commands for files of concepts."""
