# Mask R-CNN, FPN, SSViT-T, 36 epochs of multi-scale COCO.
# The authors published no recipe: this is RAVLT's (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SSViT", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
