"""Turns the results of cells into the tables of a board. The tables have confidence intervals and ranks."""
