# Mask R-CNN, FPN, SSViT-T, 12 epochs of COCO.
# The authors published no recipe: this is RAVLT's (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SSViT", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
