"""Frozen encoders: names, weights, devices, and the models themselves."""
