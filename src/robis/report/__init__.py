"""Metrics and pictures to one static HTML page."""

from __future__ import annotations

from robis.report.page import build_report

__all__ = ["build_report"]
