"""Training recipes: which batches and which loss, one file each; the trainer is shared."""
