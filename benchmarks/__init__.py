"""Benchmarks:

`python -m benchmarks.blocks` measures transformer blocks, `python -m benchmarks.attention` attention in every spelling
and what memory should bound; `python -m benchmarks.table` writes what was measured into the README.
"""
