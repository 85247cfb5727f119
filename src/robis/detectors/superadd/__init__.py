"""SuperADD (arXiv 2605.14808): distance to a memory bank of normal tokens."""
