# Semantic FPN, 80000 iterations of ADE20K in crops of 512 x 512, tested on whole images. The
# configs of a network add their backbone.
_base_ = [
    "mmseg::_base_/models/fpn_r50.py",
    "mmseg::_base_/datasets/ade20k.py",
    "../schedules/adamw_80k.py",
    "../default_runtime_seg.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained=None,
    decode_head=dict(num_classes=150),
)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)  # 8 GPUs x 2 images
