# Mask R-CNN, FPN, 36 epochs of multi-scale COCO. The configs of a network add their backbone.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../datasets/coco_instance_ms.py",
    "../schedules/adamw_3x.py",
    "../default_runtime.py",
]
