"""Questions and two endpoints in, replies on file out."""
