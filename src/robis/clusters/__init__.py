"""Which regions are alike: clusters of their embeddings, and how well these agree with the kinds of defects."""
