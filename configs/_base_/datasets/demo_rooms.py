# Rooms of simple solids in S3DIS's layout, written to data/rooms on first use (half a minute).
# Coarser voxels than S3DIS's, and no drawn-out repetition; everything else is its recipe.
_base_ = "s3dis_rooms.py"

data_root = "data/rooms/"
make = dict(num_train=240, num_val=40, seed=0)
voxel_size = 0.1

train_pipeline = [*_base_.train_pipeline]
train_pipeline[5] = dict(type="mmeffvit.GridSample", voxel_size=voxel_size, mode="train")
val_pipeline = [*_base_.val_pipeline]
val_pipeline[2] = dict(type="mmeffvit.GridSample", voxel_size=voxel_size, mode="val")

train_dataloader = dict(
    batch_size=3,
    num_workers=0,  # reading is a fraction of a step; every processor is for the model
    persistent_workers=False,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(data_root=data_root, make=make, loop=1, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, make=make, pipeline=val_pipeline),
)
test_dataloader = val_dataloader
