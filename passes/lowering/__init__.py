"""How ``lower`` writes a kernel: where each value is computed, and what each kind of op becomes."""
