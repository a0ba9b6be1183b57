"""Benchmarks:

`python -m benchmarks.blocks` measures, `python -m benchmarks.table` writes what was measured into the README.
"""
