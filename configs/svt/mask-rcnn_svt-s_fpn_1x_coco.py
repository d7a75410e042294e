# Mask R-CNN, FPN, SVT-S, 12 epochs of COCO.
# The detectors of the paper are not known: the recipe is that of pyramids like RAVLT's (README.md).
_base_ = "../_base_/detectors/mask-rcnn_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SVT", arch="small"),
    neck=dict(in_channels=[64, 128, 320, 448]),
)
