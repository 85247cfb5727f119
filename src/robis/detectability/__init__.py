"""The smallest defect that a run finds: synthetic defects on good images, and the statistics of hits and misses."""
