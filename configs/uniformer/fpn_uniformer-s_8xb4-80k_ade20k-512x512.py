_base_ = "./fpn_uniformer-s-h14_8xb4-80k_ade20k-512x512.py"

model = dict(backbone=dict(attention="global"))
