"""The label formats by the names that the command line has for them."""

from __future__ import annotations

from robis.labels.coco import COCO
from robis.labels.cvat import CVAT
from robis.labels.files import Format
from robis.labels.label_studio import LABEL_STUDIO
from robis.labels.labelme import LABELME
from robis.labels.yolo import YOLO

FORMATS: dict[str, Format] = {
    "coco": COCO,
    "yolo-seg": YOLO,
    "labelme": LABELME,
    "label-studio": LABEL_STUDIO,
    "cvat": CVAT,
}
