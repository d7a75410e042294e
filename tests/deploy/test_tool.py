"""tools/export.py, the class that runs its files, and the script beside them."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmeffvit import deploy, runtime
from mmeffvit.analysis import deployment
from mmeffvit.analysis.results import ENVIRONMENT_COLUMNS, write_csv
from mmeffvit.checkpoint import write_checkpoint
from mmeffvit.deploy.agreement import predict
from mmeffvit.deploy.evaluation import build_dataset, evaluate, images_of
from tests.tools import runs

CONFIG = f"""
_base_ = {str(runs.ROOT / "configs/demo/secvit_cls_demo.py")!r}

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.RAVLT",
        arch=dict(
            embed_dims=(8, 8, 16, 16),
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 2, 2),
            mlp_ratios=(2, 2, 2, 2),
            attention=("l", "l", "v", "v"),
            layer_scale=(1, 1, 1, 1),
        ),
    ),
    head=dict(in_channels=16),
)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("tool")
    config = folder / "config.py"
    config.write_text(CONFIG)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile(config).model).eval()
    write_checkpoint(model.state_dict(), folder / "weights.pth")
    with runs.main("export.py") as main:
        main(
            *(config, folder / "weights.pth", "--out", folder / "digits.onnx", "--script"),
            *("--varies", "nothing", "--shape", 64, 64, "--openvino", "--count", 2),
        )
    return model, folder


@pytest.mark.slow
def test_class_and_script_predict_as_the_toolbox(exported):
    model, folder = exported
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = predict(model, image)["scores"]
    onnx = runtime.OnnxModel(folder / "digits.onnx")
    assert onnx.classes == [str(digit) for digit in range(10)]
    found = onnx(image)
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
    assert found["name"] == str(expected.argmax())

    # in a process in which neither torch nor this package can be imported
    np.save(folder / "image.npy", image)
    alone = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['mmeffvit'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", alone, folder / "digits.py", folder / "image.npy"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout)["scores"], expected, atol=1e-5)


@pytest.mark.slow
def test_what_is_there_is_left_alone(exported):
    _, folder = exported
    before = (folder / "digits.onnx").read_bytes()
    with runs.main("export.py") as main, pytest.raises(SystemExit, match="--overwrite"):
        main(folder / "config.py", folder / "weights.pth", "--out", folder / "digits.onnx")
    assert (folder / "digits.onnx").read_bytes() == before


@pytest.mark.slow
def test_images_of_another_kind_are_refused(exported):
    _, folder = exported
    onnx = runtime.OnnxModel(folder / "digits.onnx")
    with pytest.raises(ValueError, match="uint8; got"):
        onnx(np.zeros((64, 64, 3), np.float32))


@pytest.fixture(scope="module")
def quantized(exported):
    cv2 = pytest.importorskip("cv2")
    _, folder = exported
    random = np.random.default_rng(1)
    (folder / "images").mkdir()
    for index in range(4):
        image = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image)
    with runs.main("quantize.py") as main:
        main(
            *(folder / "digits.onnx", "--images", folder / "images"),
            *("--out", folder / "int8.onnx", "--keep", "head"),
        )
    return folder


@pytest.mark.slow
def test_a_quantised_file_holds_bytes_and_finds_much_the_same(quantized):
    import onnx

    before, after = (runtime.OnnxModel(quantized / f"{n}.onnx") for n in ("digits", "int8"))
    assert after.classes == before.classes
    assert after.metadata["precision"] == "int8"
    graph = onnx.load(quantized / "int8.onnx").graph
    weights = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims]
    assert sum(np.prod(t.dims) for t in weights if len(t.dims) == 4) > 1000
    # the classifier's own weights were to stay
    assert not any(tuple(sorted(t.dims)) == (10, 16) for t in weights)
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    apart = np.abs(before(image)["scores"] - after(image)["scores"]).max()
    assert 0 < apart < 0.05


@pytest.mark.slow
def test_a_file_is_scored_by_the_metrics_of_the_config(exported, tmp_path):
    model, folder = exported
    cfg = Config.fromfile(folder / "config.py")
    made = {"data_root": f"{tmp_path}/", "make": {**cfg.make, "num_train": 10, "num_val": 40}}
    cfg.test_dataloader.dataset.update(made)
    scores = evaluate(runtime.OnnxModel(folder / "digits.onnx"), cfg)
    dataset = build_dataset(cfg)
    right = [
        predict(model, image)["scores"].argmax() == dataset[index]["data_samples"].gt_label.item()
        for index, image in enumerate(images_of(dataset))
    ]
    assert len(right) == 40
    assert scores["accuracy/top1"] == pytest.approx(100 * np.mean(right))


@pytest.mark.slow
def test_a_pattern_that_fits_nothing_is_answered_with_what_there_is(quantized):
    images = [np.zeros((64, 64, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"'neck'; there are .*form\.head"):
        deploy.quantize(quantized / "digits.onnx", quantized / "x.onnx", images, keep=["neck"])
    with pytest.raises(deploy.ExportError, match="no images"):
        deploy.quantize(quantized / "digits.onnx", quantized / "x.onnx", [])
    assert not (quantized / "x.onnx").exists()


@pytest.fixture(scope="module")
def deployed(quantized, tmp_path_factory):
    """The folder of a table that knew another model, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("deployed")
    config = folder / "small.py"
    data = {"data_root": f"{folder}/data/", "make": {"num_train": 10, "num_val": 4}}
    config.write_text(
        f"_base_ = {str(quantized / 'config.py')!r}\n"
        f"test_dataloader = dict(dataset=dict({', '.join(f'{k}={v!r}' for k, v in data.items())}))"
    )
    for name, end in (("digits", ""), ("int8", "_int8")):
        shutil.copyfile(quantized / f"{name}.onnx", folder / f"small{end}.onnx")
    columns = (*deployment.COLUMNS, *ENVIRONMENT_COLUMNS, "command")
    write_csv(folder / "table.csv", [{"model": "other", "form": "PyTorch"}], columns)
    arguments = (config, quantized / "weights.pth", "--out", folder / "table.csv")
    with pytest.MonkeyPatch.context() as patch, runs.main("analysis/deployment.py") as main:
        patch.setattr(deployment, "_FACTORS", (1, 1))  # the file takes one size
        main(*arguments, "--resume", "--count", 3)
    return folder, arguments


@pytest.mark.slow
def test_a_table_says_what_exporting_and_quantising_change(deployed):
    folder, _ = deployed
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        other, torch_row, float_row, int8_row = csv.DictReader(file)
    assert other["model"] == "other"
    assert [row["form"] for row in (torch_row, float_row, int8_row)] == list(deployment.FORMS)
    assert (float_row["compared"], float_row["agreeing"]) == ("30", "30")
    assert torch_row["over_pytorch"] == "1.000"
    assert float(int8_row["time_ms"]) > 0
    assert 0 <= float(int8_row["alike_to_float"]) <= 1
    cfg = Config.fromfile(folder / "small.py")
    scores = evaluate(runtime.OnnxModel(folder / "small_int8.onnx"), cfg)
    assert int8_row["scores"] == f"accuracy/top1={scores['accuracy/top1']:.4g}"


@pytest.mark.slow
def test_a_table_that_is_whole_is_left_alone(deployed, capsys):
    folder, arguments = deployed
    before = (folder / "table.csv").read_bytes()
    with runs.main("analysis/deployment.py") as main:
        main(*arguments, "--resume", "--count", 3)
    assert "scores: already in" in capsys.readouterr().err
    assert (folder / "table.csv").read_bytes() == before
