# What default_runtime.py adds to mmdet's, for the models of points, which need mmengine alone.
default_scope = "mmeffvit"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Files are whole or absent, and the last three epochs stay on disk.
    checkpoint=dict(type="mmeffvit.SafeCheckpointHook", interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)

custom_hooks = [
    # A resumed run ends with the weights of an uninterrupted one (randomness.seed must be set).
    dict(type="mmeffvit.ReproducibleResumeHook"),
    # Stop at a NaN loss, and say which.
    dict(type="mmeffvit.CheckInvalidLossHook"),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
log_processor = dict(type="LogProcessor", window_size=50)
log_level = "INFO"
load_from = None
resume = False

randomness = dict(seed=0)
