"""Commands of `evalsuite` with many options of their own, a file each, and the options that several take."""
