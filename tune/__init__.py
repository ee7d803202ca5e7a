"""tune: documents in, checkpoint out."""
