"""Exact metrics of maps, masks and image scores, from counts gathered in one pass."""
