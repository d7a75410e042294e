# Mask R-CNN, simple feature pyramid of both branches, CrossViT-S, 36 epochs of multi-scale COCO.
# The authors trained no detector: this is a recipe of fine-tuning plain ViTs (README.md).
_base_ = "../_base_/detectors/mask-rcnn_plain_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CrossViT", arch="small"),
    neck=dict(in_channels=[192, 384], concat=True),
)
