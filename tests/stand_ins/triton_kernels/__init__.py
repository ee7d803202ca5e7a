"""Stands in for what vLLM brings for GPUs and not for CPUs."""
