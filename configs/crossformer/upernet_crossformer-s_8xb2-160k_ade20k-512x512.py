# UPerNet, CrossFormer-S, 160k iterations of ADE20K.
# The recipe is the authors' (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CrossFormer", arch="small", out_norm=False),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
