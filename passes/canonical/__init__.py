"""The rules of the pass ``canonicalize``, by what they look at."""
