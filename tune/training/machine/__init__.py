"""What this machine has to train on, what training takes, and what to change when it does not fit."""
