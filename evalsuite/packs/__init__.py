"""Packs of questions that are made, not collected: what a model should not forget, whatever it is tuned for."""
