"""`fusednn.torch` under `torch.func.vmap`: ensembles are those of PyTorch's two modules."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import fusednn.torch as ft  # noqa: E402  needs PyTorch

MEMBERS, CHANNELS = 3, 7
KINDS = {"one_for_all": None, "first": 0, "last": -1}
CALL = torch.func.functional_call


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def inputs(in_dim):
    """A batch for all members, or one for each along an axis."""
    x = normal(MEMBERS, 6, CHANNELS, seed=9) + 2
    return x[0] if in_dim is None else x.movedim(0, in_dim)


def ensembles(training=True, **options):
    """A function of parameters, buffers and input, and both for all members: ours and PyTorch's."""
    pairs = []
    for kind in (ft.BatchNormLeakyReLU1d, nn.BatchNorm1d):
        modules = [kind(CHANNELS, dtype=torch.float64, **options) for _ in range(MEMBERS)]
        for seed, module in enumerate(modules):
            module.train(training)
            with torch.no_grad():
                for shift, tensor in enumerate((*module.parameters(), *module.buffers())):
                    if tensor.is_floating_point():
                        tensor.copy_(normal(CHANNELS, seed=10 * seed + shift).exp())
        base = kind(CHANNELS, device="meta", **options).train(training)

        def function(parameters, buffers, x, base=base, slope=kind is nn.BatchNorm1d):
            y = CALL(base, (parameters, buffers), (x,))
            return nn.functional.leaky_relu(y) if slope else y

        pairs.append((function, *torch.func.stack_module_state(modules)))
    return pairs


def assert_alike(results):
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("in_dim", KINDS.values(), ids=KINDS)
def test_ensembles(in_dim, training, options):
    """Results, gradients by autograd and running statistics, without warnings."""
    results = []
    for function, parameters, buffers in ensembles(training, **options):
        x = inputs(in_dim).requires_grad_()
        for _ in range(2):
            y = torch.func.vmap(function, in_dims=(0, 0, in_dim))(parameters, buffers, x)
            y.square().sum().backward()
        assert not any(b.requires_grad for b in buffers.values())
        gradients = [parameters[name].grad for name in sorted(parameters)]
        results.append([y, x.grad, *gradients, *(buffers[name] for name in sorted(buffers))])
    assert_alike(results)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("in_dim", KINDS.values(), ids=KINDS)
def test_gradients_of_ensembles(in_dim, training):
    results = []
    for function, parameters, buffers in ensembles(training):

        def loss(parameters, x, buffers, function=function):
            return function(parameters, buffers, x).pow(3).sum(), buffers

        gradient = torch.func.grad(loss, argnums=(0, 1), has_aux=True)
        (of_parameters, of_x), _ = torch.func.vmap(gradient, in_dims=(0, in_dim, 0))(
            parameters, inputs(in_dim), buffers
        )
        assert not any(b.requires_grad for b in buffers.values())
        leaves = [of_parameters[name] for name in sorted(of_parameters)]
        results.append([*leaves, of_x, *(buffers[name] for name in sorted(buffers))])
    assert_alike(results)


def test_averages_over_all_batches():
    """PyTorch cannot map over this: the weight is a number that it reads from each member."""
    (function, parameters, buffers), _ = ensembles(momentum=None)
    buffers["num_batches_tracked"].copy_(torch.tensor([0, 1, 3]))
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    x = inputs(0)
    torch.func.vmap(function)(parameters, buffers, x)
    assert buffers["num_batches_tracked"].tolist() == [1, 2, 4]
    weight = torch.tensor([[1.0], [0.5], [0.25]], dtype=torch.float64)
    expected = before["running_mean"].lerp(x.mean(1), weight)
    torch.testing.assert_close(buffers["running_mean"], expected)


@pytest.mark.parametrize("training", [True, False])
def test_ensembles_of_ensembles(training):
    module = ft.BatchNormLeakyReLU1d(CHANNELS, track_running_stats=not training).train(training)
    x = normal(2, 3, 6, CHANNELS).float()
    expected = torch.stack([torch.stack([module(part) for part in parts]) for parts in x])
    torch.testing.assert_close(torch.func.vmap(torch.func.vmap(module))(x), expected)
    last = torch.func.vmap(torch.func.vmap(module, in_dims=1, out_dims=1), in_dims=3, out_dims=3)
    y = last(x.permute(2, 1, 3, 0))
    torch.testing.assert_close(y, expected.permute(2, 1, 3, 0))


def test_running_statistics_that_are_shared():
    module = ft.BatchNormLeakyReLU1d(CHANNELS)
    before = [b.clone() for b in (module.running_mean, module.running_var)]
    with pytest.raises(RuntimeError, match="`running_mean` and `running_var` must be mapped over"):
        torch.func.vmap(module)(inputs(0).float())
    assert all(map(torch.equal, before, (module.running_mean, module.running_var)))


def test_no_members():
    module = ft.BatchNormLeakyReLU1d(CHANNELS).eval()
    with pytest.raises(ValueError, match="`vmap` must map over at least one member"):
        torch.func.vmap(module)(inputs(0).float()[:0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("training", [True, False])
def test_compiled_ensembles(training):
    torch._dynamo.reset()
    results = []
    for compiled in (True, False):
        (function, parameters, buffers), _ = ensembles(training)
        mapped = torch.func.vmap(function, in_dims=(0, 0, None))
        if compiled:
            mapped = torch.compile(mapped, backend="aot_eager", fullgraph=True)
        y = mapped(parameters, buffers, inputs(None))
        y.square().sum().backward()
        gradients = [parameters[name].grad for name in sorted(parameters)]
        results.append([y, *gradients, *(buffers[name] for name in sorted(buffers))])
    assert_alike(results)
