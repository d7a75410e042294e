# FlatFormer on two sweeps of Waymo together, 24 epochs on 8 GPUs x 1 sample. The age of a point,
# 0 or -1 sweeps, takes the place of its elongation.
_base_ = "./flatformer_8xb1-24e_waymo-3d-3class.py"

feat_keys = ("coord", "intensity", "time")
load_sweeps = dict(
    type="mmeffvit.LoadPointsFromMultiSweeps",
    sweeps_num=1,
    load_dim=6,
    use_dim=4,
    norm_intensity=True,
)
object_sample = dict(
    type="mmeffvit.ObjectSample",
    info_path=_base_.data_root + "waymo_objects_train_2frames.safetensors",
    classes=_base_.class_names,
    sample_groups=dict(Car=15, Pedestrian=10, Cyclist=10),
    min_points=dict(Car=5, Pedestrian=10, Cyclist=10),
)
pack = dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys)

train_pipeline = [
    _base_.load_points,
    dict(load_sweeps, remove_close=5.0),
    object_sample,
    *_base_.train_pipeline[2:-1],
    pack,
]
test_pipeline = [
    _base_.load_points,
    dict(load_sweeps, remove_close=1.0),
    *_base_.test_pipeline[1:-1],
    pack,
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
