"""A toy detector: how far the gray of each pixel is from the mean gray of the normal images."""
