_base_ = "./mask-rcnn_crossformer-s_fpn_1x_coco.py"

model = dict(
    backbone=dict(arch="plus-small", dense_groups=True),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
