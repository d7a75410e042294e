# Semantic FPN, RAVLT-T, 80k iterations of ADE20K.
# The recipe is the authors', who have it for S, B and L (README.md).
_base_ = "../_base_/segmentors/semantic-fpn_8xb2-80k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RAVLT", arch="tiny"),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
