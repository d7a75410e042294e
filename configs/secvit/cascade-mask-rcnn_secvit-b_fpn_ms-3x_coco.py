_base_ = "./cascade-mask-rcnn_secvit-t_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[80, 160, 320, 512]),
)
