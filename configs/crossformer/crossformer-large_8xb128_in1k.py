# CrossFormer-L on ImageNet-1K, as CrossFormer-T.
_base_ = "./crossformer-tiny_8xb128_in1k.py"

model = dict(
    backbone=dict(arch="large", drop_path_rate=0.5),
    head=dict(in_channels=1024),
)
