"""From images to embeddings: hashing, decoding ahead of the model, committing shard by shard."""
