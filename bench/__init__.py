"""Benchmarks: what the product costs beside others that do the same work, measured in one run."""
