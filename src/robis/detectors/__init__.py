"""Anomaly detectors, from tiles to tile maps: one visible registry.

Modules are imported when they run. Training and inference live in different ones, so that a change of how maps are
written trains no model again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Detector:
    """The modules of a detector's stages.

    Attributes:
        infer: offers `infer_split`.
        train: offers `train_category`; None for a detector that learns nothing.
    """

    infer: str
    train: str | None = None


DETECTORS: dict[str, Detector] = {
    "inp_former": Detector("robis.detectors.inp_former_infer", "robis.detectors.inp_former_train"),
}
