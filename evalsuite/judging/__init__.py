"""Replies in, a verdict out. Knows no endpoint."""
