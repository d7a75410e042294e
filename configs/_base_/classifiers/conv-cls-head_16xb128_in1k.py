# The recipe that SecViT, RAVLT, SSViT and RMT share for ImageNet-1K. Give it a backbone.
# Norms and biases are not decayed, as in DeiT, whose recipe this is; the authors do not say. Their
# runs used float16 with loss scaling; here that is --amp, and float32 is the default.
_base_ = [
    "../models/conv-cls-head.py",
    "../datasets/imagenet_bs128_224.py",
    "../schedules/imagenet_bs2048_adamw_300e.py",
    "../default_runtime_cls.py",
]

custom_hooks = [
    *_base_.custom_hooks,
    # the published figures of the variants S, B and L are those of the averaged weights
    dict(
        type="EMAHook",
        momentum=1 - 0.99996 ** (_base_.batch_size / 512),
        update_buffers=True,
        priority="ABOVE_NORMAL",
    ),
]
