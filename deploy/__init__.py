"""deploy: checkpoint and passing report in, running endpoint out."""
