"""The charts of the HTML page, as Vega-Lite specifications."""
