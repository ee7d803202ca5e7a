"""The embedded base: pages in, a small GPT-OSS that speaks harmony out."""
