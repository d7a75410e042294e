# What default_runtime.py adds to mmdet's, added to mmpretrain's.
_base_ = "mmpretrain::_base_/default_runtime.py"

# Files are whole or absent, and the last three epochs stay on disk.
default_hooks = dict(checkpoint=dict(type="mmeffvit.SafeCheckpointHook", max_keep_ckpts=3))

custom_hooks = [
    # A resumed run ends with the weights of an uninterrupted one (randomness.seed must be set).
    dict(type="mmeffvit.ReproducibleResumeHook"),
    # Stop at a NaN loss, and say which.
    dict(type="mmeffvit.CheckInvalidLossHook"),
]

randomness = dict(seed=0)
