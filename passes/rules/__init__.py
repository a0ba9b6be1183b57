"""The rules that make a sweep legal, one file each. A rule rewrites one reduction of a region's body, or declines with
a reason."""
