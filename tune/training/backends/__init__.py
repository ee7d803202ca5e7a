"""Training backends: one file each, the same adapter out."""
