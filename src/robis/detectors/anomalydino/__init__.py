"""AnomalyDINO (arXiv 2405.14529): cosine distance to the tokens of one or more normal images."""
