"""Anomaly detectors, from tiles to tile maps: one visible registry.

A detector's module offers `infer_split` and, where it learns from normal images, `train_category`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Detector:
    """Where a detector lives and whether it has a training stage; modules are imported when they run."""

    module: str
    trains: bool


DETECTORS: dict[str, Detector] = {
    "inp_former": Detector("robis.detectors.inp_former_stages", trains=True),
}
