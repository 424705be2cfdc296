"""What keeps a cache in order: verify, repair, label, prune; and what takes embeddings out and in."""
