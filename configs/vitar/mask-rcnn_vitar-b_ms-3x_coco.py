_base_ = "./mask-rcnn_vitar-s_ms-3x_coco.py"

model = dict(backbone=dict(arch="base"), neck=dict(in_channels=768))
