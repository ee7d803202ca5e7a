"""serve: checkpoint in, OpenAI-compatible URL out."""
