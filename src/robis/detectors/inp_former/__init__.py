"""INP-Former (arXiv 2503.02424) as RoBiS uses it: one model per category."""
