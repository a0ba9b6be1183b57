"""A package, so that `from tests.models import ...` means this folder, whatever else is called `tests` on the path."""
