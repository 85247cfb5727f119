"""Measurements of robis beside straightforward formulations and other libraries."""
