"""What detectors share that train a decoder to rebuild the tokens of normal tiles: network parts, training, maps."""
