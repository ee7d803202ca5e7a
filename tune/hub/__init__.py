"""The Hugging Face Hub: a checkpoint there with its model card, and back with its proof."""
