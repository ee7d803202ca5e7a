"""Load generation and its metrics."""
