_base_ = "./cascade-mask-rcnn_ravlt-t_fpn_ms-3x_coco.py"

model = dict(
    backbone=dict(arch="small"),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
