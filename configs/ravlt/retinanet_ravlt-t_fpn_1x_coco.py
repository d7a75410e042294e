# RetinaNet, FPN, RAVLT-T, 12 epochs of COCO.
# The recipe is the authors' (README.md).
_base_ = "../_base_/detectors/retinanet_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RAVLT", arch="tiny", out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 256, 512]),
)
