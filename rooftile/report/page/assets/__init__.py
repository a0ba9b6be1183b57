"""The page's template, styles and scripts, which ``page.py`` puts into one file."""
