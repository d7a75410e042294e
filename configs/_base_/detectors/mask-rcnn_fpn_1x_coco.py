# Mask R-CNN, FPN, 12 epochs of COCO at one scale. The configs of a network add their backbone.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "../schedules/adamw_1x.py",
    "../default_runtime.py",
]
