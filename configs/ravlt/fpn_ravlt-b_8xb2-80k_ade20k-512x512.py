_base_ = "./fpn_ravlt-t_8xb2-80k_ade20k-512x512.py"

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[96, 192, 384, 512]),
)
