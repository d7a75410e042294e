_base_ = "./cascade-mask-rcnn_ravlt-t_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(arch="large"),
    neck=dict(in_channels=[96, 192, 448, 640]),
)
