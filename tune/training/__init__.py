"""Token ids and a base in, an adapter out."""
