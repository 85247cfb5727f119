"""Generated demo images with ground truth, in every layout."""
