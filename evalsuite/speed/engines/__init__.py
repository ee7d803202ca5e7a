"""Other load testers, asked for a second opinion on the same endpoint: one file a tool, and one that runs them."""
