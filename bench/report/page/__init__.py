"""The HTML page of a board: its tables, text, images and charts in one file that needs no network."""
