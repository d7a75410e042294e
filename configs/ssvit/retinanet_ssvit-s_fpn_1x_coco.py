_base_ = "./retinanet_ssvit-t_fpn_1x_coco.py"

model = dict(backbone=dict(arch="small"))
