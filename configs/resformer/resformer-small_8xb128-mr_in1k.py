# ResFormer-S on ImageNet-1K at 224, 160 and 128 pixels at once, 300 epochs on 8 GPUs x 128 images.
# As the authors train it, but for images of one augmentation at all resolutions (README.md).
_base_ = [
    "../_base_/models/linear-cls-head.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs2048_adamw_300e.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    type="mmeffvit.MultiResolutionClassifier",
    resolutions=(224, 160, 128),
    backbone=dict(
        _delete_=True,
        type="mmeffvit.ResFormer",
        arch="small",
        out_type="class_token",
        drop_path_rate=0.1,
    ),
    head=dict(in_channels=384),
)

learning_rate = 5e-4 * 1024 / 512
optim_wrapper = dict(
    optimizer=dict(lr=learning_rate),
    # the authors spare the convolutions of positions as well
    paramwise_cfg=dict(
        custom_keys={"backbone.position": dict(decay_mult=0.0), "lepe": dict(decay_mult=0.0)}
    ),
)
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [
    *_base_.custom_hooks,
    # averages of the weights, as DeiT's script makes them; their rate is not stated
    dict(type="EMAHook", momentum=4e-5, update_buffers=True, priority="ABOVE_NORMAL"),
]
# the class token does not see the last convolution of values
find_unused_parameters = True
