"""An OpenAI-compatible server with scripted replies and faults."""
