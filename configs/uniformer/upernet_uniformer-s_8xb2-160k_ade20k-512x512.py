_base_ = "./upernet_uniformer-s-h14_8xb2-160k_ade20k-512x512.py"

model = dict(backbone=dict(attention="global"))
