"""Data sets that need no download: digits, rooms and streets, made when they are first used.

Everything is drawn from a seed and written in the layouts of real data sets (COCO, ADE20K,
ImageNet-1K, S3DIS, KITTI), whose readers read it. None of it needs a toolbox but the data sets in
`mmeffvit.demo_data.digits`, which are imported when the registry looks them up.
"""
