"""Answers that are code: read as Python, checked, and run where they can do no harm."""
