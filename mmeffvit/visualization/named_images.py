"""What hooks that write a file per test image share: names that keep apart, and a guard."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmeffvit.visualization.files import short_names
from mmeffvit.visualization.guard import DrawingGuard


class NamedImages:
    """Gives every test image a name; stands before the class of hooks that uses it.

    A name is that of the image's file, with its folder where several images share one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = DrawingGuard()
        self._names: dict[Path, Path] = {}

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose names that keep all images apart."""
        self._names = names_in(runner.test_dataloader.dataset)

    def _name(self, path: Path) -> Path:
        """Of the output of an image, without suffix."""
        return self._names.get(path, Path(path.stem))

    def _attempt(self, runner: Runner, what: object) -> AbstractContextManager[None]:
        """A block that draws, whose errors are warnings."""
        return self._guard.attempt(str(what), runner.logger.warning)


class RunVisualizer(NamedImages):
    """For hooks of the toolboxes, which draw with a visualizer."""

    def before_run(self, runner: Runner) -> None:
        """Draw with the visualizer of this run.

        The hooks of the toolboxes take the one whose name came last in the process, which after
        several runs in one process may be of another toolbox.
        """
        super().before_run(runner)
        self._visualizer = runner.visualizer


def names_in(dataset: Any) -> dict[Path, Path]:
    """Of :func:`short_names`, for the images of a data set; empty if it does not say where."""
    try:
        return short_names(
            [Path(dataset.get_data_info(i)["img_path"]) for i in range(len(dataset))]
        )
    except (AttributeError, KeyError, TypeError, NotImplementedError, ValueError):
        return {}
