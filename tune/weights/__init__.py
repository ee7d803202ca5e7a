"""An adapter and a base in, a checkpoint out."""
