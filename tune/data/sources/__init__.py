"""Page sources: one file each, the same Page out."""
