# What default_runtime.py adds to mmdet's, added to mmseg's.
_base_ = "mmseg::_base_/default_runtime.py"

custom_hooks = [
    # A resumed run ends with the weights of an uninterrupted one (randomness.seed must be set).
    dict(type="mmeffvit.ReproducibleResumeHook"),
    # Stop at a NaN loss, and say which.
    dict(type="mmeffvit.CheckInvalidLossHook"),
]

randomness = dict(seed=0)
