"""Runs the real code on the pretended CUDA device, and compares what it computes with the CPU's figures in float32.

What is driven comes from the registries and from the fields of configurations, so that what is registered later is
driven too. `support.driving.planting` puts mistakes into the code, which these checks must find.
"""
