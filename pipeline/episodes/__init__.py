"""Episodes: which images make a few-shot task, the stored test episodes, and batches of tasks as tensors."""
