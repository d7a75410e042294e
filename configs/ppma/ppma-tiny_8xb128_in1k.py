# PPMA-T on ImageNet-1K, 300 epochs and 10 at the last learning rate, on 8 GPUs x 128 images.
# The recipe is the authors' (README.md).
_base_ = [
    "../_base_/models/conv-cls-head.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "../_base_/schedules/imagenet_bs2048_adamw_300e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(type="mmeffvit.PPMA", arch="tiny", drop_path_rate=0.1),
)
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
# 5e-4 for 512 images
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    {**_base_.param_scheduler[0], "start_factor": 1e-6 / 1e-3},
    _base_.param_scheduler[1],
]
train_cfg = dict(max_epochs=310)
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [
    *_base_.custom_hooks,
    # averages of the weights, of which a step keeps 0.99996
    dict(type="EMAHook", momentum=0.00004, update_buffers=True, priority="ABOVE_NORMAL"),
]
