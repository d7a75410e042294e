"""What tuning costs: parameters and memory, in their right order."""

from mmeffvit.analysis import tuning

NAME = "mmdet.SwinTransformer:embed_dims=16,depths=(1,1,1,1),num_heads=(1,1,2,2)"


def test_trained_parameters():
    trained = {}
    for method in tuning.METHODS:
        network = tuning.build_tuned(NAME, method)
        trained[method] = sum(p.numel() for p in network.parameters() if p.requires_grad)
    # norms on the four outputs are new, and trained always
    assert trained["frozen"] == 2 * (16 + 32 + 64 + 128)
    # of qkv and proj in the one block of each stage: 8 * (dim + 3 dim) + 8 * (dim + dim)
    assert trained["lora=8"] == trained["frozen"] + 8 * 6 * (16 + 32 + 64 + 128)
    assert trained["adaptformer=64"] == trained["frozen"] + sum(
        64 * 2 * dim + 64 + dim for dim in (16, 32, 64, 128)
    )
    assert trained["full"] > 300_000


def test_a_step_changes_what_is_trained_alone(monkeypatch):
    networks = []
    build = tuning.build_tuned
    monkeypatch.setattr(tuning, "build_tuned", lambda *a: networks.append(build(*a)) or networks[0])
    step = tuning.prepare_step(NAME, "adaptformer=64", 1, 64)
    (network,) = networks
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    step()
    moved = {n for n, p in network.named_parameters() if not (p == before[n]).all()}
    assert moved
    assert moved <= {n for n, p in network.named_parameters() if p.requires_grad}


def test_table():
    row = dict.fromkeys(tuning.COLUMNS, "") | {
        "backbone": "vit-tiny",
        "method": "lora=8",
        "parameters": "4000000",
        "trainable": "100000",
        "peak_memory_mib": "120",
    }
    assert tuning.format_table([row]).endswith("| vit-tiny | lora=8 | 0.10 | 2.5% | 120 |")
