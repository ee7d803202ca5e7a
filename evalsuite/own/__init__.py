"""A team's own questions: read from a file, shown, and checked."""
