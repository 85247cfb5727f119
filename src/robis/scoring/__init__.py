"""Image scores: from maps, from detectors, and re-scored by RsCIN."""
