# Semantic FPN, UniFormer-S with hybrid windows of 14, 80k iterations of ADE20K.
# The recipe is the authors' (README.md).
_base_ = "../_base_/segmentors/semantic-fpn_8xb2-80k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.UniFormer",
        arch="small",
        attention="hybrid",
        window_size=14,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=1000, end=80000),
]
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
