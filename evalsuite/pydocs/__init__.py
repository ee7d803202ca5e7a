"""Questions about Python's standard library, generated from the installed CPython and verified by execution."""
