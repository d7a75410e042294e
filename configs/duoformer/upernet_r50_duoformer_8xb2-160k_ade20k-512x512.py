# UPerNet, ResNet-50, attention across scales before it, 160k iterations of ADE20K.
# The paper has no segmentor: the neck is ours, the recipe that of our pyramids (README.md).
_base_ = [
    "mmseg::_base_/models/upernet_r50.py",
    "mmseg::_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    neck=dict(
        type="mmeffvit.CrossScaleAttention",
        in_channels=[256, 512, 1024, 2048],
        start_level=1,  # the map of stride 4 is UPerNet's alone
    ),
    decode_head=dict(in_channels=[256] * 4, num_classes=150),
    auxiliary_head=dict(in_channels=256, num_classes=150),
)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)  # 8 GPUs x 2 images
