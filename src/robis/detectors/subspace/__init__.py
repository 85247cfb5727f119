"""SubspaceAD (arXiv 2602.23013): distance to the principal subspace of normal tokens."""
