"""The rules of the pass ``canonicalize``, by what they look at, and the driver (``rewrite``) that applies them."""
