"""FSDP2's DTensors: two processes, each of which steps its shards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch_steps
from torch.distributed.tensor import DTensor

from fusednn.torch import optim

STEPS = 3


def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(STEPS):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()


def make(name: str, module: object, model: torch.nn.Module, **options: float) -> object:
    momentum = {"momentum": 0.9} if name == "SGD" else {}
    return getattr(module, name)(model.parameters(), lr=0.05, **momentum, **options)


def work(rank: int, store: str) -> None:
    """One of two processes: both hold the same data, so that the mean gradient is each one's."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for name in ("SGD", "AdamW"):
        for own in ({}, {"max_norm": 0.1, "ema": 0.9}) if name == "AdamW" else ({},):
            plain = network()
            theirs = make(name, torch.optim, plain)
            if own:
                theirs.register_step_pre_hook(
                    lambda optimizer, *_: (
                        torch.nn.utils.clip_grad_norm_(torch_steps.params_of(optimizer), 0.1)
                        and None
                    )
                )
            train(plain, theirs)
            sharded = network()
            fully_shard(sharded, mesh=mesh)
            ours = make(name, optim, sharded, **own)
            versions = [p._version for p in sharded.parameters()]
            train(sharded, ours)
            for p, version in zip(sharded.parameters(), versions, strict=True):
                assert isinstance(p, DTensor)
                assert p._version > version
            for p, peer in zip(sharded.parameters(), plain.parameters(), strict=True):
                torch.testing.assert_close(p.full_tensor(), peer, rtol=1e-5, atol=1e-6)
                for key, value in theirs.state[peer].items():
                    state = ours.state[p][key]
                    whole = state.full_tensor() if isinstance(state, DTensor) else state
                    torch.testing.assert_close(whole, value, rtol=1e-5, atol=1e-6)
                assert not own or isinstance(ours.state[p]["ema"], DTensor)
    dist.destroy_process_group()


def run_both(store: Path) -> tuple[list[int], list[str]]:
    """Return the processes' exit statuses and what they said."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(rank), str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parent,
        )
        for rank in range(2)
    ]
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    return [worker.returncode for worker in workers], said


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_two_processes(tmp_path):
    statuses, said = run_both(tmp_path / "store")
    if statuses != [0, 0] and not any("AssertionError" in text for text in said):
        # On a busy machine gloo may lose the other process.
        statuses, said = run_both(tmp_path / "again")
    assert statuses == [0, 0], "\n".join(said)


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
