"""Choosing schedules by measurement, and keeping what was chosen."""
