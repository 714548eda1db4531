"""`fusednn.torch` where PyTorch traces a program instead of running it."""

from __future__ import annotations

import contextlib
import copy

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import fusednn.torch as ft  # noqa: E402  needs PyTorch
from fusednn.torch import library  # noqa: E402

OPS = torch.ops.fusednn
SHAPES = [(5, 3), (2, 3, 4, 2)]


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 7),
        ft.BatchNormLeakyReLU1d(7, negative_slope=0.1),
        nn.Linear(7, 5),
        ft.BatchNormLeakyReLU1d(5, momentum=None, inplace=True),
        nn.Linear(5, 1),
    )


def steps(function, model, count=3):
    """Outputs, gradients and buffers of some training steps and an evaluation."""
    results = []
    for seed in range(count):
        model.train(seed < count - 1)
        x = normal(16, 6, seed=seed).requires_grad_()
        y = function(x)
        y.square().sum().backward()
        results += [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]
        results += [b.clone() for b in model.buffers()]
        model.zero_grad()
    return results


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_as_one_graph(backend):
    torch._dynamo.reset()
    model = network()
    peer = copy.deepcopy(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for a, b in zip(steps(compiled, model), steps(peer, peer), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_for_any_batch_size():
    torch._dynamo.reset()
    model = network().eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (4, 9, 33):
        x = normal(size, 6)
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("options", [{}, {"inplace": True}, {"affine": False}], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_compiled_autograd(training, options):
    """It leaves the backward pass of a plain program out of its graph, without warnings."""
    torch._dynamo.reset()
    module = ft.BatchNormLeakyReLU1d(7, **options).train(training)
    enabled = torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager"))
    results = []
    for context in (contextlib.nullcontext(), enabled):
        x = normal(6, 7).requires_grad_()
        loss = module(x * 1).square().sum()
        with context:
            loss.backward()
        results.append([x.grad, *(p.grad for p in module.parameters())])
        module.zero_grad()
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("training", [False, True])
def test_export(training):
    model = nn.Sequential(nn.Conv2d(2, 3, 1), ft.BatchNormLeakyReLU2d(3)).train(training)
    example, x = normal(4, 2, 3, 3), normal(6, 2, 3, 3, seed=1)
    batch = {0: torch.export.Dim("batch", min=2)}
    program = torch.export.export(model, (example,), dynamic_shapes=(batch,))
    targets = {str(node.target) for node in program.graph.nodes}
    assert any("fusednn.batch_norm" in target for target in targets), targets
    torch.testing.assert_close(program.module()(x), model(x))


def arguments(shape, dtype=torch.float32):
    own = torch.float64 if dtype == torch.float64 else torch.float32
    vectors = [normal(3, seed=1, dtype=own), normal(3, seed=2, dtype=own)]
    statistics = [normal(3, seed=3, dtype=own), normal(3, seed=4, dtype=own).exp()]
    return normal(*shape, dtype=dtype), vectors, statistics


CASES = {
    "batch_norm_forward": lambda x, v, s: (x, *v, 1e-5, 0.1),
    "batch_norm_backward": lambda x, v, s: (x * 2, x, *v, *s, 0.1),
    "batch_norm_inference": lambda x, v, s: (x, *v, *s, 1e-5, 0.1),
    "batch_norm_inference_backward": lambda x, v, s: (x * 2, x, *v, *s, 1e-5, None),
    "backward_from_output": lambda x, v, s: (x * 2, x, *v, s[1], 0.1),
    "inference_backward_from_output": lambda x, v, s: (x * 2, x, *v, s[1], 0.1),
    "update_running_stats": lambda x, v, s: (*(t.clone() for t in s), *s, 5, 0.1, None),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_opcheck(name, dtype):
    for shape in SHAPES:
        x, vectors, statistics = arguments(shape, dtype)
        for v in (vectors, [None, None]):
            for format in (torch.contiguous_format, torch.preserve_format):
                laid_out = x if format == torch.contiguous_format else x.transpose(0, -1)
                laid_out = laid_out.contiguous().transpose(0, -1) if laid_out is not x else x
                torch.library.opcheck(
                    getattr(OPS, name).default, CASES[name](laid_out, v, statistics)
                )


@pytest.mark.parametrize("name", ["batch_norm_forward", "batch_norm_inference"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_opcheck_with_gradients(name, shape):
    x, vectors, statistics = arguments(shape)
    for tensor in (x, *vectors):
        tensor.requires_grad_()
    torch.library.opcheck(getattr(OPS, name).default, CASES[name](x, vectors, statistics))


@pytest.mark.parametrize("name", [name for name in CASES if "backward" in name])
def test_opcheck_of_second_derivatives(name):
    """They are the one thing that it finds missing, and an error says so."""
    x, vectors, statistics = arguments((5, 3))
    for tensor in (x, *vectors):
        tensor.requires_grad_()
    arrays = CASES[name](x, vectors, statistics)
    with pytest.raises(Exception, match="cannot be differentiated again"):
        torch.library.opcheck(getattr(OPS, name).default, arrays)


@pytest.mark.parametrize("training", [True, False])
def test_operators_have_the_gradients_of_the_functions(training):
    x, (gamma, beta), (mean, var) = arguments((5, 3), torch.float64)
    leaves = [t.requires_grad_() for t in (x, gamma, beta)]
    if training:
        function = lambda x, g, b: OPS.batch_norm_forward(x, g, b, 1e-5, 0.1)[0]  # noqa: E731
    else:
        function = lambda x, g, b: OPS.batch_norm_inference(x, g, b, mean, var, 1e-5, 0.1)  # noqa: E731
    assert torch.autograd.gradcheck(function, leaves, check_undefined_grad=False)
    (grad,) = torch.autograd.grad(function(*leaves).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        grad.sum().backward()


def test_statistics_are_results_without_gradients():
    x, vectors, _ = arguments((5, 3))
    _, mean, inv_std, var = OPS.batch_norm_forward(x.requires_grad_(), *vectors, 1e-5, 0.1)
    assert not any(t.requires_grad for t in (mean, inv_std, var))
    torch.testing.assert_close(var, x.detach().var(0))
    torch.testing.assert_close(inv_std, (x.detach().var(0, unbiased=False) + 1e-5).rsqrt())


def test_running_statistics_of_nothing_stay():
    mean, var = torch.ones(3), torch.ones(3)
    library.update_running_stats(mean, var, torch.zeros(3), torch.zeros(3), 0, 0.1, None)
    assert torch.equal(mean, torch.ones(3))
    assert torch.equal(var, torch.ones(3))


def test_transforms_of_functions():
    model = network()[:2].double()
    torch.func.replace_all_batch_norm_modules_(model)  # running statistics would be side effects
    peer = nn.Sequential(
        copy.deepcopy(model[0]),
        nn.BatchNorm1d(7, track_running_stats=False).double(),
        nn.LeakyReLU(0.1),
    )
    x = normal(8, 6, dtype=torch.float64)
    results = []
    for module in (model, peer):
        parameters = {n: p.detach() for n, p in module.named_parameters()}

        def loss(parameters, x, module=module):
            return torch.func.functional_call(module, parameters, (x,)).square().sum()

        gradients = torch.func.grad(loss)(parameters, x)
        results.append([gradients[n] for n in sorted(gradients)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_each_sample(training):
    model = ft.BatchNormLeakyReLU1d(3, track_running_stats=False, dtype=torch.float64)
    peer = nn.Sequential(
        nn.BatchNorm1d(3, track_running_stats=False, dtype=torch.float64), nn.LeakyReLU()
    )
    mean, var = torch.ones(3, dtype=torch.float64), 2 * torch.ones(3, dtype=torch.float64)
    x = normal(4, 5, 3, dtype=torch.float64)

    def own(x):
        if training:
            return model(x).square().sum()
        return ft.functional.batch_norm_leaky_relu(x, mean, var).square().sum()

    def theirs(x):
        if training:
            return peer(x).square().sum()
        y = nn.functional.leaky_relu(nn.functional.batch_norm(x, mean, var))
        return y.square().sum()

    results = [torch.func.vmap(torch.func.grad(f))(x) for f in (own, theirs)]
    torch.testing.assert_close(*results)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.func.grad(lambda x: torch.func.grad(own)(x).sum())(x[0])


def test_vmap_over_evaluation():
    model = ft.BatchNormLeakyReLU1d(3).eval()
    model.running_mean.add_(1)
    x = normal(4, 5, 3)
    torch.testing.assert_close(torch.func.vmap(model)(x), torch.stack([model(p) for p in x]))


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = ft.BatchNormLeakyReLU2d(3)
        x = torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
        y = model(x)
        y.sum().backward()
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert x.grad.shape == x.shape


def test_meta_tensors():
    model = ft.BatchNormLeakyReLU2d(3, device="meta")
    assert model(torch.empty(2, 3, 4, 5, device="meta")).shape == (2, 3, 4, 5)
