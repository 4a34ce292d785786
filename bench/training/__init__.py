"""Train a model to forget concepts, or train it further afterwards.

`Method` is what a plug-in author subclasses, `Harness` what a method works with, and `loop` runs a method.
"""
