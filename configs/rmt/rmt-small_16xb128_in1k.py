# RMT-S on ImageNet-1K, 300 epochs on 16 GPUs x 128 images.
_base_ = "../_base_/classifiers/conv-cls-head_16xb128_in1k.py"

model = dict(
    backbone=dict(type="mmeffvit.RMT", arch="small", drop_path_rate=0.15),
)
