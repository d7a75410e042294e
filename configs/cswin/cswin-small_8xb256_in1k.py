# CSWin-S on ImageNet-1K, 300 epochs on 8 GPUs x 256 images.
_base_ = "./cswin-tiny_8xb256_in1k.py"

model = dict(backbone=dict(arch="small", drop_path_rate=0.4))
