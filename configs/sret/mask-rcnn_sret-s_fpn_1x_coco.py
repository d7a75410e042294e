# Mask R-CNN, FPN, SReT-S, 12 epochs of COCO.
# The authors trained no detector: the recipe is that of pyramids like RAVLT's (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SReT", arch="small"),
    neck=dict(in_channels=[126, 126, 252, 504]),
)
