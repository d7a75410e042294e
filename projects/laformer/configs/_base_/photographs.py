# What all four recipes share: 300 steps on crops of 48 x 48 pixels of six photographs, and the
# scores of the middles of two others, which training never sees.
custom_imports = dict(imports=["projects.laformer.laformer"], allow_failed_imports=False)
default_scope = "mmengine"

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="mmeffvit.Photographs", split="train", crop=48),
    collate_fn=dict(type="default_collate"),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="mmeffvit.Photographs", split="test", crop=256),
    collate_fn=dict(type="default_collate"),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmeffvit.RestorationScores")
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.999), weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=300, val_interval=300)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    checkpoint=dict(type="mmeffvit.SafeCheckpointHook", interval=300, by_epoch=False),
    logger=dict(type="LoggerHook", interval=50),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
