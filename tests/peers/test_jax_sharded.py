"""`fusednn.jax` under `jax.shard_map` on four devices, which a process has from its start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fusednn

pytest.importorskip("fusednn.jax", exc_type=ImportError)


@pytest.mark.parametrize("how", ["checked", "unchecked"])
@pytest.mark.parametrize("program", ["jax_sharded", "jax_sharded_steps"])
def test_program(program, how):
    if "steps" in program:
        pytest.importorskip("optax")
    path = Path(__file__).with_name(f"{program}.py")
    paths = [str(Path(fusednn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    done = subprocess.run(
        [sys.executable, str(path), how], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all agree"
