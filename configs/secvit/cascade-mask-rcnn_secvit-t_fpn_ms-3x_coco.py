# Cascade Mask R-CNN, FPN, SecViT-T, 36 epochs of multi-scale COCO.
# The authors published no recipe: this is RAVLT's (README.md).
_base_ = "../_base_/detectors/cascade-mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SecViT", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
