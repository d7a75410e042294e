# UPerNet, SVT-S, 160k iterations of ADE20K.
# The authors trained no segmentor: the recipe is that of pyramids like RAVLT's (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SVT", arch="small"),
    decode_head=dict(in_channels=[64, 128, 320, 448]),
    auxiliary_head=dict(in_channels=320),
)
