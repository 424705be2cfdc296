"""The parts of a model between pixels and embeddings."""
