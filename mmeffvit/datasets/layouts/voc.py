"""Pascal VOC's layout: an XML file for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mmeffvit.datasets.checks import SUFFIXES
from mmeffvit.datasets.layouts.base import (
    Folder,
    FolderData,
    LayoutError,
    Options,
    split_of,
)
from mmeffvit.datasets.layouts.convert import convert, import_supervision


class VocLayout:
    """``Annotations/*.xml`` with ``JPEGImages/`` and ``ImageSets/Main/``, or XML beside images."""

    name: ClassVar[str] = "Pascal VOC"
    kind: ClassVar[str] = "boxes"
    tree: ClassVar[str] = """\
Annotations/*.xml  JPEGImages/*.jpg           or *.jpg with *.xml beside them,
ImageSets/Main/{train,val}.txt                as they are or in train/ valid/ test/"""

    def recognises(self, folder: Folder, options: Options) -> bool:
        """Whether there are such files."""
        for here, names in folder.having([".xml"]).items():
            with (folder.root / here / names[0]).open("rb") as file:
                if b"<annotation" in file.read(2000):
                    return True
        return False

    def describe(self, folder: Folder, options: Options) -> FolderData:
        """Convert it; see `Layout`."""
        import_supervision(self.name)
        import numpy as np
        from defusedxml.ElementTree import parse
        from supervision.dataset.formats.pascal_voc import detections_from_xml_obj

        files = _pair(folder)
        roots: dict[Path, Any] = {}
        for image, path in files.items():
            try:
                roots[image] = parse(str(folder.root / path)).getroot()
            except Exception as error:  # of several XML libraries, and their own refusals
                raise LayoutError(f"{path.as_posix()} is no whole XML file: {error}.") from error
        found = {obj.findtext("name", "") for r in roots.values() for obj in r.iter("object")}
        classes = options.classes or tuple(sorted(found))
        unknown = sorted(found - set(classes))
        if unknown:
            raise LayoutError(
                f"Objects of {', '.join(map(repr, unknown))} are annotated, which are not among "
                f"the classes that were named: {', '.join(classes)}."
            )

        def read(image: Path, size: tuple[int, int]) -> Any:
            try:
                objects, _ = detections_from_xml_obj(roots[image], list(classes), size)
            except ValueError as error:
                raise LayoutError(f"{files[image].as_posix()}: {error}") from error
            # ignored in training and evaluation, as VOC does it
            difficult = [obj.findtext("difficult", "0") for obj in roots[image].iter("object")]
            objects.data["iscrowd"] = np.array(
                [int(d.strip() == "1") for d in difficult], dtype=int
            )
            return objects

        sources = [folder.root / path for path in files.values()]
        splits = _splits(folder, list(files))
        return convert(folder, options, self.name, classes, splits, sources, read)


def _pair(folder: Folder) -> dict[Path, Path]:
    """The XML file of every image that has one."""
    images: dict[str, list[Path]] = {}
    for here, names in folder.having(SUFFIXES).items():
        if not any(part.startswith("Segmentation") for part in here.parts):  # label maps
            for name in names:
                images.setdefault(Path(name).stem, []).append(here / name)
    pairs = {}
    for here, names in folder.having([".xml"]).items():
        for name in names:
            own = images.get(Path(name).stem, [])
            # beside it, or below the same folder (Annotations/ and JPEGImages/)
            near = [i for i in own if i.parent == here] or [
                i for i in own if here.parent in i.parents
            ]
            if near:
                pairs[near[0]] = here / name
    if not pairs:
        raise LayoutError(
            f"{folder.root} has XML files of Pascal VOC, but no image of the same name beside any "
            "of them, or in a folder beside theirs."
        )
    return pairs


def _splits(folder: Folder, images: list[Path]) -> dict[str, list[Path]]:
    """By ImageSets/Main if it is there, else by names of folders."""
    lists = {
        path.stem: path
        for path in folder.named([f"{s}.txt" for s in ("train", "val", "test", "trainval")])
        if "Main" in path.parts or path.parent.name == "ImageSets"
    }
    if lists:
        stems = {}
        for name, path in lists.items():
            lines = (folder.root / path).read_text(encoding="utf-8").splitlines()
            stems[name] = {line.split()[0] for line in lines if line.strip()}
        if "train" not in stems and "trainval" in stems:
            stems["train"] = stems["trainval"]
        stems.pop("trainval", None)
        found = {s: [i for i in images if i.stem in own] for s, own in stems.items()}
        if any(found.values()):
            return {s: own for s, own in found.items() if own}
    splits: dict[str, list[Path]] = {}
    for image in images:
        splits.setdefault(split_of(image.parent) or "train", []).append(image)
    return splits
