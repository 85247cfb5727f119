"""Binary defect masks on high-resolution product images, from normal images alone."""

__version__ = "0.1.0"
