"""What a compilation did: as data that stays compatible, as text, and as a page for a browser."""

from rooftile.report.data import (
    BreakRow,
    BufferRow,
    DerivationRow,
    KernelRow,
    LedgerRow,
    LineRow,
    Loop,
    NoteRow,
    PassRow,
    Position,
    Report,
    ResourcesRow,
    RuleStep,
    TargetRow,
    Totals,
)

__all__ = [
    "BreakRow",
    "BufferRow",
    "DerivationRow",
    "KernelRow",
    "LedgerRow",
    "LineRow",
    "Loop",
    "NoteRow",
    "PassRow",
    "Position",
    "Report",
    "ResourcesRow",
    "RuleStep",
    "TargetRow",
    "Totals",
]
