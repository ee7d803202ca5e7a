"""GPT-OSS for training with its experts kept as the MXFP4 bytes that are served."""
