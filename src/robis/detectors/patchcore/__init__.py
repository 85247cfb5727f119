"""PatchCore (arXiv 2106.08265): distance to a coreset of the patches of normal images."""
