"""From anomaly maps to thresholds and coarse masks."""
