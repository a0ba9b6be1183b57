"""Values that depend on several dimensions only through one combination of their indices, such as ``i - j``."""
