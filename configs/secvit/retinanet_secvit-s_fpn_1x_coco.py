_base_ = "./retinanet_secvit-t_fpn_1x_coco.py"

model = dict(backbone=dict(arch="small"))
