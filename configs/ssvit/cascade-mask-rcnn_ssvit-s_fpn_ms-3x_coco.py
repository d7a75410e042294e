_base_ = "./cascade-mask-rcnn_ssvit-t_fpn_ms-3x_coco.py"

model = dict(backbone=dict(arch="small"))
