_base_ = "./fpn_crossformer-s_8xb4-80k_ade20k-512x512.py"

model = dict(
    backbone=dict(arch="plus-base", dense_groups=True),
)
