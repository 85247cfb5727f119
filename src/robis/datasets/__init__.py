"""Data sets on disk, as tables of samples."""
