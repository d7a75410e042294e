"""mmdet's pictures of test images, drawn so that they end no run, and none overwrites another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.engine.hooks import DetVisualizationHook
from mmengine.runner import Runner

from mmeffvit.registry import HOOKS
from mmeffvit.visualization.named_images import RunVisualizer
from mmeffvit.visualization.pixels import keep_inputs, picture_of


@HOOKS.register_module()
class DetectionPicturesHook(RunVisualizer, DetVisualizationHook):
    """mmdet's `DetVisualizationHook`, arguments and looks included, for images of any kind.

    - It draws on the pixels that the network got, of any number of channels, and reads no file.
    - A picture lies in ``test_out_dir`` under the name of its image, with the image's folder where
      several images share a name.
    - What cannot be drawn is a warning.
    """

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence
    ) -> None:
        """Draw the first image of a batch now and then, if ``draw`` is set."""
        step = runner.iter + batch_idx
        if self.draw and outputs and step % self.interval == 0:
            self._add(runner, "val_img", outputs[0], data_batch, 0, step)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence
    ) -> None:
        """Draw the images of a batch, if ``draw`` is set."""
        for index, sample in enumerate(outputs if self.draw else ()):
            self._test_index += 1
            self._add(runner, "test_img", sample, data_batch, index, self._test_index)

    def _add(
        self, runner: Runner, name: str, sample: Any, data_batch: dict, index: int, step: int
    ) -> None:
        path = Path(sample.img_path)
        with self._attempt(runner, f"the picture of {path}"):
            sample = sample.cpu()
            keep_inputs(sample, data_batch, index)
            file = None
            if name == "test_img" and self.test_out_dir is not None:
                # a relative folder lies in that of the run, as mmdet has it
                folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
                file = str(folder / self._name(path).parent / path.name)
            self._visualizer.add_datasample(
                path.name if self.show else name,
                picture_of(sample),
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                pred_score_thr=self.score_thr,
                out_file=file,
                step=step,
            )
