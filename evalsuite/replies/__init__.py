"""Who was asked what, what was heard, and what it is worth: the contracts of asking and judging."""
