"""Turn the results of cells into the tables of a board, with confidence intervals and ranks."""
