_base_ = "./upernet_crossformer-s_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(arch="plus-base", dense_groups=True),
)
