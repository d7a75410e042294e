import pytest
import torch
from mmengine.config import Config

from mmeffvit.engine import environment
from mmeffvit.engine.environment import fit_to_device, init_process_group
from mmeffvit.engine.errors import LaunchError


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """Pretend to be on a machine with this device."""

    def pretend(name):
        monkeypatch.setattr(environment, "get_device", lambda: name)

    pretend("cpu")
    return pretend


def make_cfg(launcher="pytorch", **kwargs):
    norm = {"type": "SyncBN", "requires_grad": True}
    return Config(
        {
            "launcher": launcher,
            "env_cfg": {"dist_cfg": {"backend": "nccl"}},
            "model": {"backbone": {"norm_cfg": norm}, "heads": [{"norm_cfg": norm}, {"n": None}]},
            **kwargs,
        }
    )


def test_one_cpu_process_needs_nothing():
    cfg = make_cfg(launcher="none")
    # mmengine itself turns SyncBN into BN without processes
    assert fit_to_device(cfg) == []
    assert cfg.to_dict() == make_cfg(launcher="none").to_dict()


def test_cpu_processes():
    cfg = make_cfg(find_unused_parameters=True)
    messages = [message for _, message in fit_to_device(cfg)]
    assert cfg.env_cfg.dist_cfg.backend == "gloo"
    assert "'gloo' ('nccl' before)" in messages[0]
    assert cfg.model.backbone.norm_cfg == {"type": "BN", "requires_grad": True}
    assert cfg.model.heads[0].norm_cfg.type == "BN"
    assert "2 SyncBN settings" in messages[1]
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is True


def test_a_gpu_changes_nothing(device):
    device("cuda")
    cfg = make_cfg(optim_wrapper={"type": "AmpOptimWrapper"})
    before = cfg.to_dict()
    assert fit_to_device(cfg) == []
    assert cfg.to_dict() == before
    init_process_group(cfg)
    assert not torch.distributed.is_initialized()


def test_amp_needs_an_accelerator():
    cfg = make_cfg(launcher="none", optim_wrapper={"type": "AmpOptimWrapper"})
    with pytest.raises(LaunchError, match=r"--amp.*float32"):
        fit_to_device(cfg)
    assert fit_to_device(cfg, training=False) == []


@pytest.mark.parametrize("launcher", ["slurm", "mpi"])
def test_cluster_launchers_need_gpus(launcher):
    with pytest.raises(LaunchError, match=f"--launcher {launcher} needs GPUs"):
        fit_to_device(make_cfg(launcher=launcher))


def test_launcher_without_its_environment(monkeypatch):
    for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(LaunchError, match=r"RANK, WORLD_SIZE, MASTER_ADDR.*dist_train.sh"):
        init_process_group(make_cfg())
