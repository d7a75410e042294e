# The paper's schedule, shorter: AdamW, the head ten times as fast, a warm-up, then down to 0.
_base_ = "../../../../configs/_base_/default_runtime_seg.py"
max_iters = 800
warm_up = 80
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-4, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=10.0)}, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=warm_up),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=warm_up, end=max_iters),
]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmeffvit.SafeCheckpointHook", by_epoch=False, interval=200, max_keep_ckpts=1
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(by_epoch=False)
