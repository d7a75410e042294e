# RetinaNet, FPN, SecViT-T, 12 epochs of COCO.
# The authors published no recipe: this is RAVLT's (README.md).
_base_ = "../_base_/detectors/retinanet_fpn_1x_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SecViT", arch="tiny", out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 256, 512]),
)
