# Semantic FPN, CrossFormer-S, 80k iterations of ADE20K.
# The recipe is the authors' (README.md).
_base_ = "../_base_/segmentors/semantic-fpn_8xb2-80k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CrossFormer", arch="small", out_norm=False),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
