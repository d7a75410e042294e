# CSWin-T on ImageNet-1K, 300 epochs on 8 GPUs x 256 images, as the authors train it.
_base_ = [
    "../_base_/models/norm-cls-head.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "../_base_/schedules/imagenet_bs2048_adamw_300e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(type="mmeffvit.CSWin", arch="tiny", drop_path_rate=0.2),
)
train_dataloader = dict(batch_size=256)
val_dataloader = dict(batch_size=256)
test_dataloader = val_dataloader
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-6 / _base_.learning_rate,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=20, end=_base_.max_epochs),
]
custom_hooks = [
    *_base_.custom_hooks,
    # averages of the weights, of which a step keeps 0.99984
    dict(type="EMAHook", momentum=0.00016, update_buffers=True, priority="ABOVE_NORMAL"),
]
