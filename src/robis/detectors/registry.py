"""The detectors that robis knows, by name."""

from __future__ import annotations

from robis.config.registry import Registry
from robis.detectors.anomalydino.detector import AnomalydinoDetector
from robis.detectors.base import Detector
from robis.detectors.dinomaly.detector import DinomalyDetector
from robis.detectors.inp_former.detector import InpFormerDetector
from robis.detectors.musc.detector import MuscDetector
from robis.detectors.patchcore.detector import PatchcoreDetector
from robis.detectors.subspace.detector import SubspaceDetector
from robis.detectors.superadd.detector import SuperaddDetector
from robis.detectors.winclip.detector import WinclipDetector

DETECTORS: Registry[Detector] = Registry(
    inp_former=InpFormerDetector(),
    musc=MuscDetector(),
    winclip=WinclipDetector(),
    superadd=SuperaddDetector(),
    patchcore=PatchcoreDetector(),
    anomalydino=AnomalydinoDetector(),
    subspace=SubspaceDetector(),
    dinomaly=DinomalyDetector(),
)
# The detector whose published values `auto` stands for where no detector is meant: RoBiS's.
BASE = next(iter(DETECTORS.values()))
