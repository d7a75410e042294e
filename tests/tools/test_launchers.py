"""The shell scripts that start several processes."""

import socket

import pytest
import torch

from tests.tools import runs

TOOLS = runs.ROOT / "tools"


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the scripts take the GPUs then")
def test_two_processes(tmp_path, port, echo, capfd):
    """On CPUs: gloo in place of NCCL, BN in place of SyncBN, and equal weights at the end.

    What the script starts is started by a process that has imported the stack, and forks the two.
    """
    data = runs.write_data(tmp_path / "digits")
    extra = """
model['neck']['norm_cfg'] = dict(type='SyncBN', requires_grad=True)
custom_hooks = [dict(type='SaveParametersHook')]
train_cfg.update(max_epochs=1)
"""
    config = runs.write_config(tmp_path, extra)
    options = ("--cfg-options", f"data_root={data}")
    work_dir = tmp_path / "work"
    arguments = (config, 2, "--work-dir", work_dir, *options)
    started = runs.run(TOOLS / "dist_train.sh", *arguments, PORT=port, PYTHON=str(echo))
    output = runs.run(*started.splitlines(), PET_START_METHOD="fork", PET_RUN_PATH="1")
    assert "env_cfg.dist_cfg.backend became 'gloo'" in output
    assert "SyncBN settings of the model became BN" in output
    # six images, two processes, two images each
    assert "[1][2/2]" in output
    first, second = (torch.load(work_dir / f"rank{rank}.pth") for rank in range(2))
    saved = torch.load(work_dir / "epoch_1.pth", weights_only=True)["state_dict"]
    assert any("neck" in key and ".bn." in key for key in first)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        assert torch.equal(value, saved[key]), key

    # and they validate together as one process alone does
    with runs.main("test.py") as test:
        test(config, work_dir / "epoch_1.pth", "--work-dir", tmp_path / "one", *options)
    single = capfd.readouterr().out
    assert copypaste(single) == copypaste(output) != []


def copypaste(output):
    return [line.split("INFO - ")[1] for line in output.splitlines() if "_mAP_copypaste" in line]


@pytest.mark.parametrize(
    ("script", "usage"),
    [
        ("dist_train.sh", "CONFIG GPUS [ARGS]"),
        ("dist_test.sh", "CONFIG CHECKPOINT GPUS [ARGS]"),
        ("slurm_train.sh", "PARTITION JOB CONFIG WORK_DIR [ARGS]"),
    ],
)
def test_usage(script, usage):
    output = runs.run(TOOLS / script, "one-argument", status=2)
    assert output.startswith("usage: ")
    assert usage in output


@pytest.fixture
def echo(tmp_path):
    """A program that prints its arguments, one per line."""
    path = tmp_path / "srun"
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


def test_dist_test_command(echo):
    environment = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "PORT": "1234"}
    arguments = ("a config.py", "c.pth", 4, "--show-dir", "a b")
    output = runs.run(TOOLS / "dist_test.sh", *arguments, PYTHON=str(echo), **environment)
    assert output.splitlines() == [
        *("-m", "torch.distributed.run", "--nnodes=2", "--node_rank=1"),
        *("--master_addr=10.0.0.1", "--master_port=1234", "--nproc_per_node=4"),
        *(str(TOOLS / "test.py"), "a config.py", "c.pth", "--launcher", "pytorch"),
        *("--show-dir", "a b"),
    ]


def test_slurm_command(echo):
    """What would be submitted, as a stand-in for srun sees it."""
    path = f"{echo.parent}:/usr/bin:/bin"
    arguments = ("gpu part", "job", "a config.py", "work dir", "--amp", "--cfg-options", "a=1 2")
    output = runs.run(
        TOOLS / "slurm_train.sh", *arguments, PATH=path, GPUS="4", SRUN_ARGS="--mem 8G"
    )
    seen = output.splitlines()
    assert seen[:2] == ["--partition=gpu part", "--job-name=job"]
    assert {"--gres=gpu:4", "--ntasks=4", "--ntasks-per-node=4", "--mem", "8G"} < set(seen)
    start = seen.index(str(TOOLS / "train.py"))
    assert seen[start + 1 :] == [
        *("a config.py", "--work-dir=work dir", "--launcher", "slurm"),
        *("--amp", "--cfg-options", "a=1 2"),
    ]
