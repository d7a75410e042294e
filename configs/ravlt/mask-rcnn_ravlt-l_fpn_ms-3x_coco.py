_base_ = "./mask-rcnn_ravlt-t_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(arch="large"),
    neck=dict(in_channels=[96, 192, 448, 640]),
)

# the authors give their largest variant one image per GPU, at the same learning rate
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
