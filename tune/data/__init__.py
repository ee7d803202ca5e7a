"""Documents in, token ids out."""
