# PPMA-B on ImageNet-1K, as PPMA-T.
_base_ = "./ppma-tiny_8xb128_in1k.py"

model = dict(backbone=dict(arch="base", drop_path_rate=0.4))
