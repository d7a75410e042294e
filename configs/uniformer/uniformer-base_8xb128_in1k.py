# UniFormer-B on ImageNet-1K, 300 epochs on 8 GPUs x 128 images.
_base_ = "./uniformer-small_8xb128_in1k.py"

# 4e-4 for 512 images
lr = 8e-4
model = dict(backbone=dict(arch="base", drop_path_rate=0.3))
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    {**_base_.param_scheduler[0], "start_factor": 1e-6 / lr},
    _base_.param_scheduler[1],
]
