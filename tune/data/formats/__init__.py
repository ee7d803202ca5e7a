"""Readers of document formats other than HTML: one file each, bytes to a Document through the one reader of HTML."""
