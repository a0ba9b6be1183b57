"""Masks become loop bounds: which values vanish where a condition fails, and which tiles that leaves to be visited."""
