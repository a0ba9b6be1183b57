"""Writes what was measured into the README, between its markers: ``python -m benchmarks.table``."""

from __future__ import annotations

from benchmarks.attention_table import attention_section
from benchmarks.blocks_table import blocks_section
from benchmarks.compile_time import compile_section
from benchmarks.markdown import between
from benchmarks.matmul_table import matmul_section
from benchmarks.processes import ROOT
from benchmarks.records import ATTENTION_RESULTS, BLOCK_RESULTS, COMPILE_RESULTS, MATMUL_RESULTS, saved


def main() -> None:
    """Rewrite the README from every file of results."""
    readme = ROOT / "README.md"
    page = readme.read_text(encoding="utf-8")
    page = between(page, "blocks", blocks_section(saved(BLOCK_RESULTS)))
    page = between(page, "matmul", matmul_section(saved(MATMUL_RESULTS)))
    page = between(page, "attention", attention_section(saved(ATTENTION_RESULTS)))
    page = between(page, "compile-time", compile_section(saved(COMPILE_RESULTS)))
    readme.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
