"""Turn the settings of a run into cells, and check the settings before a model is loaded.

A cell is one method on one task with one seed.
"""
