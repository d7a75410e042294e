"""Pascal VOC's layout: an XML file for each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mmeffvit.datasets.checks import SUFFIXES
from mmeffvit.datasets.layouts.base import (
    Folder,
    FolderData,
    LayoutError,
    Options,
    read_text,
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
                root = parse(str(folder.root / path)).getroot()
            except Exception as error:  # of several XML libraries, and their own refusals
                raise LayoutError(f"{path.as_posix()} is no whole XML file: {error}.") from error
            if root.tag != "annotation":
                raise LayoutError(
                    f"{path.as_posix()} has the name of an image, but is no annotation of Pascal "
                    f"VOC: it begins with <{root.tag}> and not with <annotation>."
                )
            for name in root.iter("name"):
                name.text = (name.text or "").strip()
            roots[image] = root
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
        splits, notes = _splits(folder, list(files))
        alone = len(_images(folder)) - len(files)
        if alone:
            notes.append(f"{alone} images have no XML file of their name, and are left out.")
        data = convert(folder, options, self.name, classes, splits, sources, read)
        return replace(data, notes=(*data.notes, *notes))


def _images(folder: Folder) -> list[Path]:
    """All but label maps."""
    return [
        here / name
        for here, names in folder.having(SUFFIXES).items()
        if not any(part.startswith("Segmentation") for part in here.parts)
        for name in names
    ]


def _pair(folder: Folder) -> dict[Path, Path]:
    """The XML file of every image that has one."""
    images: dict[str, list[Path]] = {}
    for image in _images(folder):
        images.setdefault(image.stem, []).append(image)
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


def _splits(folder: Folder, images: list[Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """By ImageSets/Main if it is there, else by names of folders; and what is to be said of it."""
    lists = {
        path.stem: path
        for path in folder.named([f"{s}.txt" for s in ("train", "val", "test", "trainval")])
        if "Main" in path.parts or path.parent.name == "ImageSets"
    }
    if lists:
        stems = {}
        for name, path in lists.items():
            lines = read_text(folder.root / path).splitlines()
            stems[name] = {line.split()[0] for line in lines if line.strip()}
        if "train" not in stems and "trainval" in stems:
            stems["train"] = stems["trainval"]
        stems.pop("trainval", None)
        found = {s: [i for i in images if i.stem in own] for s, own in stems.items()}
        if any(found.values()):
            lost = {s: len(own) - len(found[s]) for s, own in stems.items()}
            notes = [
                f"{lists.get(split, lists.get('trainval')).as_posix()} names {count} images that "
                "have no annotation or are not there."
                for split, count in lost.items()
                if count > 0
            ]
            return {s: own for s, own in found.items() if own}, notes
    splits: dict[str, list[Path]] = {}
    for image in images:
        splits.setdefault(split_of(image.parent) or "train", []).append(image)
    return splits, []
