# FaViT-B0 on ImageNet-1K, 300 epochs on 8 GPUs x 128 images: the recipe of its code (README.md).
_base_ = [
    "../_base_/models/linear-cls-head.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs2048_adamw_300e.py",
    "../_base_/default_runtime_cls.py",
]

# 5e-4 for 512 images
lr = 1e-3
model = dict(
    backbone=dict(type="mmeffvit.FaViT", arch="b0", drop_path_rate=0.1),
    head=dict(in_channels=256),
)
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    {**_base_.param_scheduler[0], "start_factor": 1e-6 / lr},
    _base_.param_scheduler[1],
]
auto_scale_lr = dict(base_batch_size=1024)
