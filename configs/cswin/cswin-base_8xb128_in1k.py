# CSWin-B on ImageNet-1K, 300 epochs on 8 GPUs x 128 images, with half the learning rate, twice the
# weight decay and averages over twice as many steps.
_base_ = "./cswin-tiny_8xb256_in1k.py"

model = dict(
    backbone=dict(arch="base", drop_path_rate=0.5),
    head=dict(in_channels=768),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.1))
param_scheduler = [
    {**_base_.param_scheduler[0], "start_factor": 1e-6 / 1e-3},
    _base_.param_scheduler[1],
]
custom_hooks = [
    *_base_.custom_hooks[:-1],
    {**_base_.custom_hooks[-1], "momentum": 0.00008},
]
auto_scale_lr = dict(base_batch_size=1024)
