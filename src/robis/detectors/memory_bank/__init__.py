"""Shared by detectors that compare tokens with a bank of normal tokens."""
