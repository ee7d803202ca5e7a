"""Runs that others made: their files in, items with right or wrong out."""
