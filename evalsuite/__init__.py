"""evalsuite: two URLs in, one verdict out. Knows only HTTP."""
