"""The HTML report: one file for each board, made from its tables, its description and the store's pictures."""
