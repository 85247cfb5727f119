"""From coarse masks and images to final masks."""
