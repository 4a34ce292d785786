"""Turn the settings of a run into cells, and check them before a model is loaded.

A cell is one method on one task with one seed.
"""
