"""Files of annotation tools: COCO, YOLO segmentation, labelme, Label Studio, CVAT."""
