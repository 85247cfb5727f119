"""Metrics and pictures on one static HTML page."""
