"""The config: option models, overrides, and messages about mistakes."""
