"""Comparing backbones: budgets, what is equal for all, rows, the front, and the whole command."""

import csv
import multiprocessing
import os
import re
import shlex
import sys

import pytest
from matplotlib.collections import PathCollection
from mmengine.config import Config
from PIL import Image

from mmeffvit.analysis import compare, compare_report
from mmeffvit.engine.errors import LaunchError
from mmeffvit.swap.recipe import set_recipe
from tests.tools import runs


@pytest.mark.parametrize(
    ("text", "iterations", "seconds"),
    [
        ("20min", None, 1200),
        ("1.5h", None, 5400),
        ("90s", None, 90),
        ("5000iters", 5000, None),
        ("300_iters", 300, None),
        ("7it", 7, None),
    ],
)
def test_budgets(text, iterations, seconds):
    budget = compare.Budget.parse(text)
    assert (budget.iterations, budget.seconds) == (iterations, seconds)


@pytest.mark.parametrize("text", ["", "20", "0min", "2.5iters", "fast", "-3h", "20 days"])
def test_other_budgets_are_refused(text):
    with pytest.raises(LaunchError, match="neither a time"):
        compare.Budget.parse(text)


def test_all_get_the_same_schedule_whatever_the_config_says():
    cfg = Config(
        {
            "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 12},
            "param_scheduler": [{"type": "MultiStepLR", "milestones": [8, 11]}],
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
            "load_from": "somewhere.pth",
        }
    )
    compare.set_budget(cfg, 200)
    assert cfg.train_cfg == {
        "type": "IterBasedTrainLoop",
        "max_iters": 200,
        "val_interval": 201,
    }
    rise, fall = cfg.param_scheduler
    assert (rise.begin, rise.end, fall.begin, fall.end, fall.T_max) == (0, 10, 10, 200, 190)
    assert cfg.default_hooks.checkpoint.interval == 50
    assert cfg.load_from is None


def test_front():
    costs, values = [1, 2, 3, 3, 4, 2], [0.1, 0.5, 0.4, 0.6, 0.6, 0.5]
    assert compare_report.front(costs, values) == [True, True, False, True, False, True]


def make_row(backbone, value, latency, memory, **more):
    row = dict.fromkeys(compare.COLUMNS, "")
    row.update(backbone=backbone, status="ok", metric="coco/bbox_mAP", value=value)
    row.update(latency_ms=latency, memory_mib=memory, budget="20min", machine="a machine", **more)
    return row


ROWS = [
    make_row("slow", "0.3000", "90.0", "300"),
    make_row("good", "0.4000", "50.0", "400"),
    make_row("unmeasured", "0.1000", "60.0", ""),
    {**make_row("broken", "", "", ""), "status": "failed", "reason": "ValueError: a | b"},
]


def test_table_is_sorted_and_has_the_failures():
    lines = compare_report.format_table(ROWS).splitlines()
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines[2:]]
    assert [row[0].lstrip("| ") for row in cells] == ["good", "slow", "unmeasured", "broken"]
    assert [row[-1].rstrip("| ") for row in cells[:3]] == ["yes", "yes", ""]
    assert cells[3][1] == "failed: ValueError: a \\| b"


def test_picture_names_all_that_ran(tmp_path):
    figure = compare_report.draw_comparison(ROWS, "Digits")
    latency, memory = figure.axes
    names = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert names == [["slow", "good", "unmeasured"], ["slow", "good"]]
    (line,) = latency.get_lines()
    assert line.get_xydata().tolist() == [[50.0, 0.4]]
    (line,) = memory.get_lines()
    assert line.get_xydata().tolist() == [[300.0, 0.3], [400.0, 0.4]]
    with pytest.raises(ValueError, match="nothing to draw"):
        compare_report.draw_comparison(ROWS[3:])


def test_other_tables_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="its columns are others"):
        compare_report.read_rows(tmp_path / "x.csv")
    assert compare_report.read_rows(tmp_path / "nothing.csv") == []


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(LaunchError, match="pip install submitit"):
        next(compare.run_jobs([], tmp_path))


ARCH = (
    "secvit:arch={'embed_dims':(8,8,16,16),'depths':(1,1,1,1),'num_heads':(1,1,2,2),"
    "'mlp_ratios':(2,2,2,2),'num_clusters':(4,4,2,-1),'layer_scale':(None,None,None,None)}"
)


def test_all_start_from_equal_conditions(tmp_path):
    """The config's own backbone gets the recipe, the seed and the schedule of the others."""
    config = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
    jobs = compare.make_jobs(
        ["config", "rmt-tiny", "rmt-tiny"], tmp_path, config=config, budget="80iters", seed=3
    )
    assert [job.backbone for job in jobs] == ["config", "rmt-tiny"], "each once"
    others = compare.make_jobs(["rmt-tiny"], tmp_path, config=config, budget="90iters", seed=3)
    assert len({job.work_dir for job in jobs + others}) == 3, "none resumes another's checkpoint"
    own, ours = (compare.prepare(job, 80, tmp_path / job.backbone) for job in jobs)
    assert (own.model.backbone.type, ours.model.backbone.type) == ("ResNet", "mmeffvit.RMT")
    assert "init_cfg" not in own.model.backbone, "all start from random weights"
    assert own.optim_wrapper.optimizer.type == "AdamW"
    keys = ("optim_wrapper", "train_cfg", "param_scheduler", "randomness", "train_dataloader")
    for key in keys:
        assert own[key] == ours[key], key
    assert own.randomness.seed == 3
    weights = {"type": "Pretrained", "checkpoint": "mine.pth"}
    named = compare.make_jobs([f"config:init_cfg={weights}"], tmp_path, config=config, budget="2s")
    (backbone,) = (compare.prepare(job, 80, tmp_path).model.backbone for job in named)
    assert (backbone.init_cfg, backbone.type) == (weights, "ResNet")


def test_networks_of_other_libraries_start_at_random_too(tmp_path):
    pytest.importorskip("timm")
    config = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
    names = ["timm/resnet10t", "timm/resnet10t:pretrained=True"]
    jobs = compare.make_jobs(names, tmp_path, config=config, budget="2iters")
    starts = [compare.prepare(job, 2, tmp_path).model.backbone.pretrained for job in jobs]
    assert starts == [False, True]


def test_a_config_that_was_written_by_no_file_gets_the_recipe():
    """As that of a swap, or of a data set that was put in."""
    optimizer = {"type": "SGD", "lr": 0.01}
    model = {"type": "RetinaNet", "backbone": {"type": "ResNet"}}
    entries = {"model": model, "optim_wrapper": {"optimizer": optimizer}}
    cfg = Config(entries, cfg_text="# made", filename="not_there.py")
    assert set_recipe(cfg, "adamw").optim_wrapper.optimizer.type == "AdamW"
    assert set_recipe(cfg, "keep").optim_wrapper.optimizer == optimizer
    assert cfg.optim_wrapper.optimizer == optimizer
    own = {"type": "AdamW", "lr": 0.01}  # no decay is set, so there are no rules for it
    cfg = Config({"model": model, "optim_wrapper": {"optimizer": own}}, cfg_text="# made")
    assert set_recipe(cfg, "adamw").optim_wrapper == {"optimizer": own}


@pytest.mark.slow
def test_the_command_from_nothing_to_a_picture_and_again(tmp_path, capfd):
    """In this process, with a backbone of ours and one that does not exist."""
    pytest.importorskip("submitit")
    config, data = runs.write_config(tmp_path), runs.write_data(tmp_path / "digits")
    arguments = [config, "--backbones", "rmt-huge", ARCH, "--budget", "2iters"]
    arguments += ["--data-root", data, "--out", tmp_path / "out", "--cluster", "debug"]
    with runs.main("compare_backbones.py") as main, pytest.raises(SystemExit, match="1"):
        main(*arguments)
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        unknown, row = csv.DictReader(file)
    assert unknown["status"] == "failed"
    assert unknown["reason"].startswith("SwapError: ")
    assert "rmt-huge" in unknown["reason"]
    assert (row["status"], row["metric"], row["iterations"]) == ("ok", "coco/segm_mAP", "2")
    assert 0 <= float(row["value"]) <= 1
    assert float(row["latency_ms"]) > 0
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.size[0] > 1000
    assert "rmt-huge | failed: " in (tmp_path / "out" / "comparison.md").read_text()
    capfd.readouterr()
    with runs.main("compare_backbones.py") as main, pytest.raises(SystemExit, match="1"):
        main(*arguments)
    assert "2 of 2 runs are in" in capfd.readouterr().out


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of a cluster that takes jobs and never runs them."""
    pytest.importorskip("submitit")
    folder = tmp_path / "bin"
    folder.mkdir()
    take = f'cp "$1" {folder}/script.sh\necho Submitted batch job 12\n'
    for name, text in {"sbatch": take, "srun": "false\n"}.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_what_slurm_is_asked_for(tmp_path, slurm, monkeypatch):
    """From a machine that has no GPU itself."""
    import submitit

    sent = []

    def ends(handle, job):
        sent.append(submitit.core.utils.DelayedSubmission.load(handle.paths.submitted_pickle))
        return {**dict.fromkeys(compare.COLUMNS, ""), "status": "failed", "reason": "not run"}

    monkeypatch.setattr(submitit.helpers, "as_completed", iter)
    monkeypatch.setattr(compare, "_result", ends)
    arguments = ["mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "--backbones", "rmt-tiny"]
    arguments += ["--budget", "2iters", "--out", tmp_path / "out", "--cluster", "slurm"]
    arguments += ["--partition", "small", "--time-limit", "240", "--cpus", "8"]
    with runs.main("compare_backbones.py") as main, pytest.raises(SystemExit, match="1"):
        main(*arguments)
    asked = set(re.findall(r"#SBATCH --(\S+)", (slurm / "script.sh").read_text()))
    expected = {"partition=small", "time=240", "gpus-per-node=1", "cpus-per-task=8"}
    assert expected <= asked
    (submission,) = sent
    (job,) = submission.args
    assert submission.function is compare.run_backbone
    assert (job.backbone, job.budget, job.device) == ("rmt-tiny", "2iters", "cuda")


_SBATCH = """
id=$(( $(cat $Q/last 2>/dev/null || echo 100) + 1 )); echo $id > $Q/last
cp "$1" $Q/$id.sh; echo PENDING > $Q/$id.state; echo Submitted batch job $id
"""
_SACCT = """
echo "JobID|State|NodeList"
while [[ $# -gt 0 ]]; do
  [[ $1 == -j && -e $Q/$2.state ]] && echo "$2|$(cat $Q/$2.state)|n1"
  shift
done
"""


class Cluster:
    """What takes jobs and answers as SLURM does; `run` carries them out, each in a fork."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        for name, text in {"sbatch": _SBATCH, "sacct": _SACCT}.items():
            (folder / name).write_text(f"#!/bin/bash\nQ={folder}\n{text}")
            (folder / name).chmod(0o755)
        monkeypatch.setattr("submitit.SlurmJob.watcher", self._watcher())
        monkeypatch.setattr("submitit.helpers.time.sleep", self.run)
        # for results that are slow to arrive from another machine
        monkeypatch.setattr("submitit.SlurmJob._results_timeout_s", 0)

    @staticmethod
    def _watcher():
        from submitit.slurm.slurm import SlurmInfoWatcher

        return SlurmInfoWatcher(delay_s=0)

    def run(self, seconds=0):
        for script in sorted(self.folder.glob("*.sh")):
            job, state = script.stem, script.with_suffix(".state")
            if state.read_text().strip() == "PENDING":
                *_, folder = shlex.split(script.read_text().strip().splitlines()[-1])
                state.write_text("RUNNING\n")
                process = multiprocessing.get_context("fork").Process(
                    target=self._job, args=(job, folder)
                )
                process.start()
                process.join()
                state.write_text("FAILED\n" if process.exitcode else "COMPLETED\n")

    @staticmethod
    def _job(job, folder):
        from submitit.core.submission import process_job

        os.environ.update(SUBMITIT_EXECUTOR="slurm", SLURM_JOB_ID=job, SLURM_NTASKS="1")
        os.environ.update(dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0"))
        process_job(folder)


def _pretend(job):
    if job.backbone == "killed":
        os._exit(9)
    if job.backbone == "raises":
        raise RuntimeError("no such node")
    return make_row(job.backbone, "0.4000", "50.0", "400", device=job.device)


def test_jobs_of_slurm_become_rows(tmp_path, slurm, monkeypatch):
    """One that ends, one that raises, and one whose process is gone without a result."""
    Cluster(slurm, monkeypatch)
    monkeypatch.setattr(compare, "run_backbone", _pretend)
    backbones = ["good", "raises", "killed"]
    jobs = compare.make_jobs(backbones, tmp_path / "runs", config="c.py", budget="2iters")
    found = compare.run_jobs(
        jobs, tmp_path / "jobs", "slurm", timeout_min=5, slurm_partition="small"
    )
    rows = {job.backbone: row for job, row in found}
    assert list(rows) == backbones
    assert (rows["good"]["status"], rows["good"]["value"]) == ("ok", "0.4000")
    for name, reason in (
        ("raises", "no such node"),
        ("killed", r"has not produced .*state: FAILED"),
    ):
        assert rows[name]["status"] == "failed"
        assert re.search(reason, rows[name]["reason"]), rows[name]["reason"]
        assert "log: " in rows[name]["reason"]


def test_what_slurm_refuses_is_a_sentence(tmp_path, slurm):
    (slurm / "sbatch").write_text("#!/bin/bash\necho invalid partition >&2\nexit 1\n")
    job = compare.Job("config", "c.py", str(tmp_path / "run"), "2iters")
    runs_of = compare.run_jobs([job], tmp_path / "jobs", "slurm", timeout_min=1)
    with pytest.raises(LaunchError, match=r"SLURM refused a job: .*invalid partition"):
        next(runs_of)


def test_a_detector_that_finds_nothing_scores_nothing():
    coco = {"type": "CocoMetric", "metric": ["bbox", "segm", "proposal"]}
    assert compare.nothing_found([coco]) == {"coco/bbox_mAP": 0.0, "coco/segm_mAP": 0.0}
    assert compare.nothing_found({"type": "CocoMetric"}) == {"coco/bbox_mAP": 0.0}
    assert compare.nothing_found({"type": "IoUMetric"}) == {}


def test_a_time_becomes_a_number_of_iterations_once(tmp_path, monkeypatch):
    """Twelve iterations are timed, of which the first four settle; the number is kept."""
    job = compare.Job("config", "c.py", str(tmp_path / "run"), "1min")
    monkeypatch.setattr(compare, "prepare", lambda job, iterations, work_dir: _config())
    calls = []

    class Runner:
        def register_hook(self, hook):
            self.hook = hook

        def train(self):
            calls.append(1)
            self.hook.times += [0.0, 9.0, 9.5, 10.0] + [10 + 0.5 * i for i in range(1, 9)]

    monkeypatch.setattr(compare.launch, "build_runner", lambda cfg: Runner())
    budget = compare.Budget.parse("1min")
    (tmp_path / "run").mkdir()
    assert compare._iterations_for(job, budget, tmp_path / "run") == 120
    assert compare._iterations_for(job, budget, tmp_path / "run") == 120
    assert calls == [1]


def _config():
    return Config({"default_hooks": {"checkpoint": {"type": "CheckpointHook"}}})


def test_names_in_the_picture_keep_clear_of_each_other():
    """Runs of nearly the same score and cost: no name lies on another, or leaves its panel."""
    rows = [
        make_row(f"timm/a_long_name_{i}", f"{0.40 + 0.02 * i:.2f}", f"{50 + 9 * i}", f"{300 + i}")
        for i in range(3)
    ]
    rows.append(make_row("far", "0.9000", "900.0", "4000"))
    figure = compare_report.draw_comparison(rows)
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert [text.get_text() for text in axes.texts] == [row["backbone"] for row in rows]
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert not any(a.overlaps(b) for a, b in pairs)
        panel = axes.get_window_extent(renderer)
        markers = [c for c in axes.collections if isinstance(c, PathCollection)]
        xs, ys = zip(*(marker.get_offsets()[0] for marker in markers))
        assert len(markers) == len(rows)
        left, right = axes.get_xlim()
        low, high = axes.get_ylim()
        assert left < min(xs) <= max(xs) < right
        assert low < min(ys) <= max(ys) < high
        assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)
