"""Holds a method, a metric and the judges to leaving the process and the networks as they found them."""
