"""What people call the folders and labels of normal, defective and unjudged images, and the folders of masks."""

from __future__ import annotations

import re

from robis.io.names import composed

# Compared without regard to case, spaces, hyphens, underscores and dots: "Defect-free" is "defectfree".
NORMAL = (
    *("good", "ok", "okay", "normal", "nominal", "pass", "passed", "accepted", "flawless", "faultless", "healthy"),
    *("intact", "undamaged", "defectfree", "faultfree", "anomalyfree", "nodefect", "nodefects", "noanomaly"),
    *("nondefective", "nonanomalous", "notdefective", "nodamage", "gut", "io"),
)
ANOMALOUS = (
    *("bad", "anomalous", "anomaly", "anomalies", "abnormal", "defect", "defects", "defective", "damaged", "faulty"),
    *("fail", "failed", "rejected", "reject", "ng", "nok", "notok", "notgood", "ko", "nio"),
)
UNKNOWN = ("unknown", "unlabeled", "unlabelled", "unjudged", "unbekannt")
MASK_FOLDERS = ("masks", "mask", "groundtruth", "gt")
# What operating systems and servers put beside images.
_SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")


def is_normal(name: str) -> bool:
    """Whether a folder or a label of this name means normal images."""
    return _plain(name) in NORMAL


def is_anomalous(name: str) -> bool:
    """Whether a folder or a label of this name means defective images of no particular kind."""
    return _plain(name) in ANOMALOUS


def is_unknown(name: str) -> bool:
    """Whether a folder or a label of this name means images that nobody has judged."""
    return _plain(name) in UNKNOWN


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks."""
    return _plain(name) in MASK_FOLDERS


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or not the user's: AppleDouble files, thumbnails, recycle bins."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def folded(name: str) -> str:
    """Give a name in the form that is compared without regard to case."""
    return composed(composed(name).casefold())


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]+", "", folded(name))
