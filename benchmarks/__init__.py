"""Comparisons with what is published and with what users would otherwise pick."""
