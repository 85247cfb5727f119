"""Arithmetic on arrays: half precision and morphology."""
