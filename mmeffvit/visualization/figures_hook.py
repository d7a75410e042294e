"""What all hooks that draw during validation and testing share; no toolbox is needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmeffvit.visualization.curves import as_fractions, draw_curves, read_scalars
from mmeffvit.visualization.files import save_picture
from mmeffvit.visualization.guard import DrawingGuard
from mmeffvit.visualization.pixels import keep_inputs
from mmeffvit.visualization.sheet import Page


class FiguresHook(Hook):
    """Keep two figures in the work directory: ``predictions.png`` and ``curves.png``.

    Both are drawn anew after each validation, so they show the state of the last one, also when
    the run is stopped early or resumed; testing draws ``predictions.png`` alone. In a distributed
    run the main process draws, from the examples that it has evaluated itself. What cannot be drawn
    is a warning, and never ends a run.

    Args:
        num_images: Examples on the contact sheet, drawn by lot.
        title: Heading of both figures; the name of the experiment by default.
        seed: Decides the lot.
        **page: ``panel`` and ``columns`` of :class:`mmeffvit.visualization.Page`.
    """

    # after LoggerHook, whose scalars the curves need
    priority = "LOWEST"
    #: metrics that the heading of the sheet repeats, with their names
    scores: ClassVar[dict[str, str]]
    #: what tells examples apart, in the data set and in data samples, and what they are
    path_key: ClassVar[str] = "img_path"
    noun: ClassVar[str] = "images"

    def __init__(
        self, num_images: int = 8, title: str | None = None, seed: int = 0, **page: int
    ) -> None:
        if num_images < 1:
            raise ValueError(f"num_images is {num_images}; it must be at least 1")
        Page(**page)  # says at once what is wrong
        self.num_images = num_images
        self.title = title
        self.seed = seed
        self.page = page
        self._samples: list = []
        self._wanted: set[str] = set()
        self._guard = DrawingGuard()

    def _has_something(self, info: dict) -> bool:
        """Whether an image is worth showing."""
        return True

    def _draw(self, samples: list, metainfo: dict, **texts: Any) -> Image.Image:
        """The contact sheet of data samples."""
        raise NotImplementedError

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the images to draw."""
        self._choose(runner, runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose the images to draw."""
        self._choose(runner, runner.test_dataloader)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        """Keep the predictions on the chosen images."""
        with self._guard.attempt(f"{self.noun} of batch {batch_idx}", runner.logger.warning):
            for index, sample in enumerate(outputs or ()):
                wanted = sample.get(self.path_key) in self._wanted
                if wanted and len(self._samples) < self.num_images:
                    self._samples.append(self._take(sample.cpu(), data_batch, index))

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw both figures."""
        with self._guard.attempt("predictions.png", runner.logger.warning):
            self._draw_sheet(runner, runner.val_dataloader.dataset, metrics)
        with self._guard.attempt("curves.png", runner.logger.warning):
            self._draw_curves(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw the contact sheet."""
        with self._guard.attempt("predictions.png", runner.logger.warning):
            self._draw_sheet(runner, runner.test_dataloader.dataset, metrics)

    def _choose(self, runner: Runner, dataloader) -> None:
        self._samples, self._wanted = [], set()
        dataset = dataloader.dataset
        # every process evaluates its share of the images
        count = self.num_images * get_world_size()
        with self._guard.attempt(f"a choice of {self.noun}", runner.logger.warning):
            for index in np.random.default_rng(self.seed).permutation(len(dataset)):
                info = dataset.get_data_info(int(index))
                if self._has_something(info):
                    self._wanted.add(info[self.path_key])
                if len(self._wanted) == count:
                    break

    def _take(self, sample: Any, data_batch: dict | None, index: int) -> Any:
        """What is kept of a data sample until it is drawn."""
        keep_inputs(sample, data_batch, index)
        return sample

    @master_only
    def _draw_sheet(self, runner: Runner, dataset, metrics: dict | None) -> None:
        samples, self._samples = self._samples, []
        if not samples:
            return
        sheet = self._draw(
            samples,
            dataset.metainfo,
            title=self._title(runner),
            subtitle=self._subtitle(runner, metrics),
            **self.page,
        )
        path = Path(runner.work_dir, "predictions.png")
        save_picture(sheet, path)
        runner.logger.info(f"Predictions drawn: {path}")

    @master_only
    def _draw_curves(self, runner: Runner) -> None:
        train, val = read_scalars(runner.work_dir)
        if not train and not val:
            runner.logger.warning(
                f"No curves drawn: there is no vis_data/scalars.json under {runner.work_dir}. "
                "Add dict(type='LocalVisBackend') to vis_backends."
            )
            return
        path = Path(runner.work_dir, "curves.png")
        save_picture(draw_curves(train, val, title=self._title(runner)), path)
        runner.logger.info(f"Curves drawn: {path}")

    def _title(self, runner: Runner) -> str:
        if self.title is not None:
            return self.title
        # mmengine appends the time stamp to the name of the config
        return runner.experiment_name.removesuffix(f"_{runner.timestamp}")

    def _subtitle(self, runner: Runner, metrics: dict | None) -> str:
        fractions = as_fractions(metrics or {})
        scores = {key.rpartition("/")[2]: value for key, value in fractions.items()}
        if isinstance(getattr(runner, "_train_loop", None), dict) or runner._train_loop is None:
            parts = [f"test {self.noun}"]
        else:
            parts = [f"validation after {runner.iter} training iterations"]
        for key, name in self.scores.items():
            if key in scores:
                parts.append(f"{name} {scores[key]:.3f}")
        return "  ·  ".join(parts)
