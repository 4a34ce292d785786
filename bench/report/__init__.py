"""The output of a run: the table in the terminal, the Markdown table and the HTML report."""
