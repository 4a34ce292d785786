"""Compute one cell: train the weights, sample images, judge them, and measure the metrics.

The store keeps the output of each step.
"""
