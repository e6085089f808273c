"""From embeddings to error rates, with their intervals."""
