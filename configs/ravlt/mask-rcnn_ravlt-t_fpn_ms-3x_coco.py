# Mask R-CNN, FPN, RAVLT-T, 36 epochs of multi-scale COCO.
# The authors trained none as small this long: the recipe is that of RAVLT-S (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RAVLT", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
