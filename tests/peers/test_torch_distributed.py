"""`fusednn.torch` in two processes over gloo: synchronised statistics, data parallelism."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn
dist = torch.distributed

import fusednn.torch as ft  # noqa: E402  needs PyTorch

# What each of the two processes has of a batch; none of it may be of another size.
PARTS = [(0, 3), (3, 10)]


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def synchronised(rank, directory):
    """Training steps of a part; what comes out goes to a file."""
    results = []
    for momentum, channels_last in [(0.1, False), (None, True)]:
        module = ft.SyncBatchNormLeakyReLU(4, momentum=momentum, dtype=torch.float64)
        with torch.no_grad():
            module.weight.copy_(normal(4, seed=1))
            module.bias.copy_(normal(4, seed=2))
        for step in range(2):
            x, grad = (normal(10, 4, 3, 2, seed=s + step)[slice(*PARTS[rank])] for s in (10, 20))
            if channels_last:
                x = x.to(memory_format=torch.channels_last)
            if step:
                empty = rank == 0
                x, grad = (x[:0], grad[:0]) if empty else (x, grad)
            leaf = x.clone().requires_grad_()
            y = module(leaf)
            y.backward(grad)
            gradients = [p.grad.clone() for p in (module.weight, module.bias)]
            for g in gradients:
                dist.all_reduce(g)
            module.zero_grad()
            buffers = [b.clone() for b in module.buffers()]
            results.append([y.detach(), leaf.grad, *gradients, *buffers])
    evaluated = module.eval()(normal(1, 4, 3, 2))
    results.append([evaluated.detach()])
    counted = module.num_batches_tracked.item()
    try:
        module.train()(normal(1 - rank, 4))
    except ValueError as error:
        results.append(str(error))
    assert module.num_batches_tracked == counted
    x = normal(5, 4)
    try:
        torch.compile(module, backend="eager", fullgraph=True)(x)
    except Exception as error:
        results.append(str(error))
    torch.compiler.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results.append([torch.compile(module, backend="eager")(x), module(x)])
    results.append([str(w.message) for w in caught if "Dynamo does not know" in str(w.message)])
    x.requires_grad_()
    try:
        torch.autograd.grad(module(x).sum(), x, create_graph=True)
    except RuntimeError as error:
        results.append(str(error))
    torch.save(results, Path(directory) / f"{rank}.pt")


def data_parallel(rank, directory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.LeakyReLU(0.1), nn.Linear(5, 2))
    peer = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
    own = nn.parallel.DistributedDataParallel(ft.convert(model))
    results = []
    for module in (own, peer):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            module(
                normal(8, 6, seed=2 * step + rank, dtype=torch.float32)
            ).square().sum().backward()
            optimizer.step()
        results.append({k: v.clone() for k, v in module.state_dict().items()})
    together = ft.convert_sync_batchnorm(copy.deepcopy(own.module))
    wrapped = nn.parallel.DistributedDataParallel(together)
    wrapped(normal(8, 6, seed=rank, dtype=torch.float32)).sum().backward()
    results.append([p.grad for p in wrapped.parameters()])
    torch.save(results, Path(directory) / f"{rank}.pt")


def start(rank, function, directory, attempt):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{directory}/store{attempt}", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    function(rank, directory)
    dist.barrier()
    dist.destroy_process_group()


def run(function, directory):
    for attempt in range(2):
        try:
            torch.multiprocessing.spawn(start, (function, str(directory), attempt), nprocs=2)
            break
        except torch.multiprocessing.ProcessExitedException as error:
            # At its end a process of gloo's may abort, seldom, whatever it did before.
            if attempt or error.signal_name != "SIGABRT":
                raise
    return [torch.load(directory / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_two_processes_are_one_batch(tmp_path):
    ranks = run(synchronised, tmp_path)
    index = 0
    for momentum in (0.1, None):
        norm = nn.BatchNorm2d(4, momentum=momentum, dtype=torch.float64)
        with torch.no_grad():
            norm.weight.copy_(normal(4, seed=1))
            norm.bias.copy_(normal(4, seed=2))
        for step in range(2):
            first = PARTS[1][0] if step else 0
            x, grad = (normal(10, 4, 3, 2, seed=s + step)[first:] for s in (10, 20))
            leaf = x.clone().requires_grad_()
            y = nn.functional.leaky_relu(norm(leaf))
            y.backward(grad)
            expected = [y.detach(), leaf.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()]
            results = [torch.cat([r[index][i] for r in ranks]) for i in range(2)]
            for rank in ranks:
                for a, b in zip(results + rank[index][2:], expected, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
            norm.zero_grad()
            index += 1
    evaluated = nn.functional.leaky_relu(norm.eval()(normal(1, 4, 3, 2)))
    for rank in ranks:
        torch.testing.assert_close(rank[index], [evaluated.detach()])
        assert "more than one value per channel" in rank[index + 1]
        assert "SyncBatchNormLeakyReLU in a process group is not part of" in rank[index + 2]
        torch.testing.assert_close(*rank[index + 3], rtol=0, atol=0)
        assert rank[index + 4] == []
        assert "cannot be differentiated again" in rank[index + 5]


def test_data_parallel(tmp_path):
    ranks = run(data_parallel, tmp_path)
    for own, peer, _ in ranks:
        for name, value in own.items():
            torch.testing.assert_close(value, peer[name], rtol=1e-4, atol=1e-5, msg=name)
    for name, value in ranks[0][0].items():
        if "running" not in name:
            assert torch.equal(value, ranks[1][0][name])
    for a, b in zip(ranks[0][2], ranks[1][2], strict=True):
        assert torch.equal(a, b)


def test_alone_it_is_a_batch_norm():
    own, peer = ft.SyncBatchNormLeakyReLU(3, negative_slope=0.2), nn.BatchNorm1d(3)
    for shape in [(5, 3), (5, 3, 2, 2, 2)]:
        x = normal(*shape, dtype=torch.float32)
        peer._check_input_dim = lambda x: None
        torch.testing.assert_close(own(x), nn.functional.leaky_relu(peer(x), 0.2))
    with pytest.raises(ValueError, match="expected at least 2D input"):
        own(torch.ones(3))
    assert isinstance(own, nn.modules.batchnorm._BatchNorm)


def test_conversions():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.LeakyReLU(0.3), nn.SyncBatchNorm(3), nn.ReLU())
    parameters = list(model.parameters())
    ft.convert_sync_batchnorm(ft.convert(model, inplace=True), "group")
    first, _, second, _ = model
    assert type(first) is type(second) is ft.SyncBatchNormLeakyReLU
    assert (first.process_group, second.process_group) == ("group", None)
    assert (first.negative_slope, first.inplace, second.negative_slope) == (0.3, False, 0.0)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    ft.revert(model)
    assert [type(m) for m in model] == [nn.SyncBatchNorm, nn.LeakyReLU, nn.SyncBatchNorm, nn.ReLU]
    single = ft.convert_sync_batchnorm(ft.BatchNormLeakyReLU1d(3))
    assert type(single) is ft.SyncBatchNormLeakyReLU
