"""Looking at what was made: replies of base and tuned side by side, and what a row trains on."""
