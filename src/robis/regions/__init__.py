"""What the final masks mark: each region with an embedding, and the evidence for it."""
