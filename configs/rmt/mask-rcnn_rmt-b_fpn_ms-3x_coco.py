_base_ = "./mask-rcnn_rmt-t_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[80, 160, 320, 512]),
)

optim_wrapper = dict(optimizer=dict(lr=0.0002))
