# CrossFormer++-H on ImageNet-1K, as CrossFormer-T.
_base_ = "./crossformer-tiny_8xb128_in1k.py"

model = dict(
    backbone=dict(arch="plus-huge", drop_path_rate=0.5),
    head=dict(in_channels=1024),
)
