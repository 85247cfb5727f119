"""Tiles: windows, the tile store, and merging tile maps into anomaly maps."""
