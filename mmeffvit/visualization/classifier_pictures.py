"""mmpretrain's pictures of test images, drawn so that they end no run and overwrite none."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import Runner
from mmpretrain.engine.hooks import VisualizationHook

from mmeffvit.registry import HOOKS
from mmeffvit.visualization.named_images import RunVisualizer
from mmeffvit.visualization.pixels import to_rgb


@HOOKS.register_module()
class ClassificationPicturesHook(RunVisualizer, VisualizationHook):
    """mmpretrain's `VisualizationHook`, arguments and looks included, for images of any kind.

    The images that the network got are drawn in their own colours, of any number of channels. A
    picture of a test has the name of its image, with the image's folder where several share a name,
    and what cannot be drawn is a warning.
    """

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence
    ) -> None:
        """Draw what mmpretrain's hook draws."""
        with self._attempt(runner, f"images of batch {batch_idx}"):
            super().after_val_iter(runner, batch_idx, data_batch, outputs)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence
    ) -> None:
        """Draw every ``interval``-th image, if ``enable`` is set."""
        first = batch_idx * len(outputs)
        for index, sample in enumerate(outputs if self.enable else ()):
            if (first + index) % self.interval:
                continue
            path = Path(sample.get("img_path") or str(first + index))
            with self._attempt(runner, f"the picture of {path}"):
                options = dict(self.draw_args)
                if self.out_dir is not None:
                    folder = Path(self.out_dir, self._name(path).parent)
                    options["out_file"] = str(folder / f"{path.name}_0.png")
                image = data_batch["inputs"][index].detach().cpu().permute(1, 2, 0).numpy()
                self._visualizer.visualize_cls(
                    image=to_rgb(image), data_sample=sample, step=0, name=path.name, **options
                )
