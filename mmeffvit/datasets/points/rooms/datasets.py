"""Data sets of rooms, one file each: S3DIS, ScanNet, and others in these layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mmengine.dataset import BaseDataset

from mmeffvit.datasets.made import MadeOnFirstUse
from mmeffvit.datasets.points.rooms.files import IGNORE_INDEX, find_rooms
from mmeffvit.registry import DATASETS

# classes, and the colours in which the data sets' own tools show them
_S3DIS = {
    "ceiling": (0, 255, 0),
    "floor": (0, 0, 255),
    "wall": (0, 255, 255),
    "beam": (255, 255, 0),
    "column": (255, 0, 255),
    "window": (100, 100, 255),
    "door": (200, 200, 100),
    "table": (170, 120, 200),
    "chair": (255, 0, 0),
    "sofa": (200, 100, 100),
    "bookcase": (10, 200, 100),
    "board": (200, 200, 200),
    "clutter": (50, 50, 50),
}
_SCANNET = {
    "wall": (174, 199, 232),
    "floor": (152, 223, 138),
    "cabinet": (31, 119, 180),
    "bed": (255, 187, 120),
    "chair": (188, 189, 34),
    "sofa": (140, 86, 75),
    "table": (255, 152, 150),
    "door": (214, 39, 40),
    "window": (197, 176, 213),
    "bookshelf": (148, 103, 189),
    "picture": (196, 156, 148),
    "counter": (23, 190, 207),
    "desk": (247, 182, 210),
    "curtain": (219, 219, 141),
    "refrigerator": (255, 127, 14),
    "shower curtain": (158, 218, 229),
    "toilet": (44, 160, 44),
    "sink": (112, 128, 144),
    "bathtub": (227, 119, 194),
    "otherfurniture": (82, 84, 163),
}

S3DIS_METAINFO = {"classes": tuple(_S3DIS), "palette": list(_S3DIS.values())}
SCANNET_METAINFO = {"classes": tuple(_SCANNET), "palette": list(_SCANNET.values())}
#: numbers stand for the names, which are long and come with the data
SCANNET200_METAINFO = {"classes": tuple(f"class_{number:03d}" for number in range(200))}


@DATASETS.register_module()
class RoomDataset(BaseDataset):
    """Rooms of your own: ``data_root/FOLDER/<room>.pth``, or folders ``<room>/`` of ``.npy`` files.

    What is in a room stands in `mmeffvit.datasets.points.rooms.files`. Classes are those of
    ``metainfo=dict(classes=...)``, here and in the data sets that derive from this one; labels are
    their numbers.

    Args:
        *args: As in mmengine's `BaseDataset`.
        folders: Folders of `data_root` with the rooms.
        semantic_key: Entry of a file that holds the classes, None if there are no labels: nothing
            can be trained on such rooms or measured.
        ignore_index: Label in the files of points whose class is not known. Models, metrics and
            pictures find 255 in its place.
        loop: How often an epoch goes through the rooms; a large number saves start-up time.
        data_prefix: As in mmengine's `BaseDataset`.
        lazy_init: As in mmengine's `BaseDataset`.
        **kwargs: As in mmengine's `BaseDataset`.

    Raises:
        FileNotFoundError: A folder is missing or has no room.
        ValueError: There are no classes, or `loop` or `ignore_index` cannot be.
    """

    def __init__(
        self,
        *args,
        folders: Sequence[str],
        semantic_key: str | None = "semantic_gt",
        ignore_index: int = IGNORE_INDEX,
        loop: int = 1,
        data_prefix: Mapping | None = None,
        lazy_init: bool = False,
        **kwargs,
    ):
        if loop < 1:
            raise ValueError(f"loop must be at least 1, got {loop}")
        super().__init__(*args, data_prefix=dict(data_prefix or {}), lazy_init=True, **kwargs)
        self.folders = tuple(folders)
        self.semantic_key = semantic_key
        self.ignore_index = ignore_index
        self.loop = loop
        classes, palette = (self._metainfo.get(key) or () for key in ("classes", "palette"))
        if not classes:
            raise ValueError("a data set of rooms needs metainfo=dict(classes=('floor', ...))")
        if len(palette) != len(classes):  # own classes have no colours of others
            self._metainfo.pop("palette", None)
        # what mmdet3d's metric wants to know
        self._metainfo.setdefault("label2cat", dict(enumerate(self._metainfo["classes"])))
        self._metainfo.setdefault("ignore_index", IGNORE_INDEX)
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """List the rooms, folder by folder in alphabetic order."""
        info = {
            "semantic_key": self.semantic_key,
            "num_classes": len(self.metainfo["classes"]),
            "ignore_index": self.ignore_index,
        }
        rooms = [
            {"lidar_path": str(path), **info}
            for folder in self.folders
            for path in self._files(Path(self.data_root, folder))
        ]
        return rooms * self.loop

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        files = find_rooms(folder)
        if not files:
            raise FileNotFoundError(
                f"there are no rooms (*.pth, or folders with coord.npy) in '{folder}'; data_root "
                "must hold one folder with rooms for each area or split"
            )
        return files


@DATASETS.register_module()
class S3DISRoomDataset(MadeOnFirstUse, RoomDataset):
    """Stanford's indoor spaces, ``Area_1`` to ``Area_6``, with 13 classes (entry semantic_gt).

    Args:
        *args: As in `RoomDataset`.
        areas: Numbers of the areas. Published numbers are of area 5, trained on the others.
        semantic_key: As in `RoomDataset`.
        **kwargs: As in `RoomDataset`, and `make`, see `MadeOnFirstUse`: arguments of
            :func:`mmeffvit.demo_data.rooms.ensure_rooms`, which writes made-up rooms.
    """

    METAINFO = S3DIS_METAINFO
    maker: ClassVar = {"type": "rooms"}

    def __init__(
        self,
        *args,
        areas: Sequence[int] = (1, 2, 3, 4, 6),
        semantic_key: str | None = "semantic_gt",
        **kwargs,
    ):
        if not areas or any(area not in range(1, 7) for area in areas):
            raise ValueError(f"areas must be numbers of 1 to 6, got {areas}")
        folders = [f"Area_{area}" for area in areas]
        super().__init__(*args, folders=folders, semantic_key=semantic_key, **kwargs)
        self.areas = tuple(areas)


@DATASETS.register_module()
class ScanNetRoomDataset(RoomDataset):
    """ScanNet's scenes, folders ``train``, ``val`` and ``test``, with 20 or 200 classes.

    Entries are ``semantic_gt20`` and ``semantic_gt200``; scenes of ``test`` have none.

    Args:
        *args: As in `RoomDataset`.
        split: ``'train'``, ``'val'`` or ``'test'``.
        num_classes: 20, or 200 for ScanNet200.
        semantic_key: Entry with the classes; by default as above.
        metainfo: As in mmengine's `BaseDataset`.
        **kwargs: As in `RoomDataset`.
    """

    METAINFO = SCANNET_METAINFO

    def __init__(
        self,
        *args,
        split: str = "train",
        num_classes: int = 20,
        semantic_key: str | None = None,
        metainfo: Mapping | None = None,
        **kwargs,
    ):
        if split not in ("train", "val", "test"):
            raise ValueError(f"split must be 'train', 'val' or 'test', got {split!r}")
        if num_classes not in (20, 200):
            raise ValueError(f"num_classes must be 20 or 200, got {num_classes}")
        names = SCANNET_METAINFO if num_classes == 20 else SCANNET200_METAINFO
        key = semantic_key or f"semantic_gt{num_classes}"
        key = None if split == "test" else key
        metainfo = {**names, **(metainfo or {})}
        super().__init__(*args, folders=[split], semantic_key=key, metainfo=metainfo, **kwargs)
        self.split = split
        self.num_classes = num_classes
