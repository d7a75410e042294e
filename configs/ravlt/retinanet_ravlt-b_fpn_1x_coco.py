_base_ = "./retinanet_ravlt-t_fpn_1x_coco.py"

model = dict(
    backbone=dict(arch="base"),
    neck=dict(in_channels=[192, 384, 512]),
)
