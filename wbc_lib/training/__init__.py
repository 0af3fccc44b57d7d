"""Experiments, networks, fitting, and the store of runs."""
