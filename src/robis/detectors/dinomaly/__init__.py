"""Dinomaly (arXiv 2405.14325): a decoder with linear attention rebuilds tokens of normal images."""
