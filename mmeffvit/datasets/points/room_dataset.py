"""Data sets of rooms, one file each: S3DIS, ScanNet, and others in these layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset

from mmeffvit.datasets.made import ensure_made
from mmeffvit.datasets.points.room_classes import (
    S3DIS_METAINFO,
    SCANNET200_METAINFO,
    SCANNET_METAINFO,
)
from mmeffvit.datasets.points.room_file import IGNORE_INDEX
from mmeffvit.datasets.points.rooms import ensure_rooms
from mmeffvit.registry import DATASETS


class RoomDataset(BaseDataset):
    """Files ``data_root/FOLDER/<room>.pth``; see `mmeffvit.datasets.points.room_file`.

    Classes can be changed as in every data set of mmengine, ``metainfo=dict(classes=...)``; labels
    are then numbers of these.

    Args:
        *args: As in mmengine's `BaseDataset`.
        loop: How often an epoch goes through the rooms; a large number saves start-up time.
        data_prefix: As in mmengine's `BaseDataset`.
        **kwargs: As in mmengine's `BaseDataset`.

    Raises:
        FileNotFoundError: A folder is missing or has no room.
    """

    def __init__(self, *args, loop: int = 1, data_prefix: Mapping | None = None, **kwargs):
        if loop < 1:
            raise ValueError(f"loop must be at least 1, got {loop}")
        self.loop = loop
        super().__init__(*args, data_prefix=dict(data_prefix or {}), **kwargs)
        # what mmdet3d's metric wants to know
        self._metainfo.setdefault("label2cat", dict(enumerate(self._metainfo["classes"])))
        self._metainfo.setdefault("ignore_index", IGNORE_INDEX)

    #: entry of a file that holds the classes, None if there are no labels
    semantic_key: str | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of `data_root` with the rooms."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """List the rooms, folder by folder in alphabetic order."""
        num_classes = len(self.metainfo["classes"])
        rooms = [
            {
                "lidar_path": str(path),
                "semantic_key": self.semantic_key,
                "num_classes": num_classes,
            }
            for folder in self.folders
            for path in self._files(Path(self.data_root, folder))
        ]
        return rooms * self.loop

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        files = sorted(folder.glob("*.pth"))
        if not files:
            raise FileNotFoundError(
                f"there are no rooms (*.pth) in '{folder}'; data_root must hold one folder with "
                "files for each area or split"
            )
        return files


@DATASETS.register_module()
class S3DISRoomDataset(RoomDataset):
    """Stanford's indoor spaces, ``Area_1`` to ``Area_6``, with 13 classes (entry semantic_gt).

    Args:
        *args: As in `RoomDataset`.
        areas: Numbers of the areas. Published numbers are of area 5, trained on the others.
        make: Write rooms made from primitives to `data_root` when first used, see
            :func:`mmeffvit.datasets.points.rooms.ensure_rooms`, whose arguments it holds, such as
            ``dict(num_train=40, seed=0)``; data sets that share a `data_root` must give the same.
            True means its defaults; None or False reads what is there.
        **kwargs: As in `RoomDataset`.
    """

    METAINFO = S3DIS_METAINFO
    semantic_key = "semantic_gt"

    def __init__(
        self,
        *args,
        areas: Sequence[int] = (1, 2, 3, 4, 6),
        make: dict | bool | None = None,
        **kwargs,
    ):
        if not areas or any(area not in range(1, 7) for area in areas):
            raise ValueError(f"areas must be numbers of 1 to 6, got {areas}")
        self.areas = tuple(areas)
        self._make = make
        super().__init__(*args, **kwargs)

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(f"Area_{area}" for area in self.areas)

    def load_data_list(self) -> list[dict]:
        """Write the rooms if need be, and list them."""
        ensure_made(ensure_rooms, self.data_root, self._make)
        return super().load_data_list()


@DATASETS.register_module()
class ScanNetRoomDataset(RoomDataset):
    """ScanNet's scenes, folders ``train``, ``val`` and ``test``, with 20 or 200 classes.

    Entries are ``semantic_gt20`` and ``semantic_gt200``; scenes of ``test`` have none.

    Args:
        *args: As in `RoomDataset`.
        split: ``'train'``, ``'val'`` or ``'test'``.
        num_classes: 20, or 200 for ScanNet200.
        metainfo: As in mmengine's `BaseDataset`.
        **kwargs: As in `RoomDataset`.
    """

    METAINFO = SCANNET_METAINFO

    def __init__(
        self,
        *args,
        split: str = "train",
        num_classes: int = 20,
        metainfo: Mapping | None = None,
        **kwargs,
    ):
        if split not in ("train", "val", "test"):
            raise ValueError(f"split must be 'train', 'val' or 'test', got {split!r}")
        if num_classes not in (20, 200):
            raise ValueError(f"num_classes must be 20 or 200, got {num_classes}")
        self.split = split
        self.num_classes = num_classes
        names = SCANNET_METAINFO if num_classes == 20 else SCANNET200_METAINFO
        super().__init__(*args, metainfo={**names, **(metainfo or {})}, **kwargs)

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.split,)

    @property
    def semantic_key(self) -> str | None:
        return None if self.split == "test" else f"semantic_gt{self.num_classes}"
