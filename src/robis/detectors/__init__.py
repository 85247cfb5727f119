"""Anomaly detectors, from tiles to tile maps: one folder per method, listed in `registry.py`."""
