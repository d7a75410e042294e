# UPerNet, SSViT-T, 160k iterations of ADE20K.
# The authors published no recipe: this is RAVLT's (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.SSViT", arch="tiny"),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
