"""What a compilation did, as data that stays compatible, and as text."""

from rooftile.report.data import BufferRow, DerivationRow, KernelRow, LedgerRow, Loop, Report, RuleStep, Totals

__all__ = ["BufferRow", "DerivationRow", "KernelRow", "LedgerRow", "Loop", "Report", "RuleStep", "Totals"]
