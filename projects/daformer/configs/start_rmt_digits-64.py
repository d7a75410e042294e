# The backbone that all start from, in the place of ImageNet's: classes of single digits in drawn
# scenes.
_base_ = [
    "_base_/arch.py",
    "../../../configs/_base_/models/conv-cls-head.py",
    "../../../configs/_base_/datasets/digits_cls.py",
    "../../../configs/_base_/default_runtime_cls.py",
]
model = dict(
    backbone=dict(type="mmeffvit.RMT", arch=_base_.arch),
    head=dict(num_classes=10, in_channels=128, hidden_channels=256),
    # digits that are mixed are no digits
    train_cfg=None,
)
max_iters = 1000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
digits = dict(data_root="data/digits_cls_12k/", make=dict(num_train=12000))
train_dataloader = dict(sampler=dict(type="InfiniteSampler", shuffle=True), dataset=digits)
val_dataloader = dict(dataset=digits)
test_dataloader = val_dataloader
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=50, end=max_iters),
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(by_epoch=False, interval=max_iters),
)
log_processor = dict(by_epoch=False)
