"""`fusednn.torch.BatchNormLeakyReLU1d`, `2d`, `3d` beside the pairs of PyTorch's modules."""

from __future__ import annotations

import copy
import io
import itertools

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import fusednn.torch as ft  # noqa: E402  needs PyTorch

SHAPES = {1: (33, 7), 2: (4, 6, 5, 3), 3: (2, 3, 4, 5, 2)}
OWN = {1: ft.BatchNormLeakyReLU1d, 2: ft.BatchNormLeakyReLU2d, 3: ft.BatchNormLeakyReLU3d}
THEIRS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-11, torch.float16: 4e-3, torch.bfloat16: 4e-2}


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def pair(rank, slope=0.01, dtype=torch.float32, inplace=False, **options):
    """One of ours and the two of theirs, with the same parameters that are none of the defaults."""
    channels = SHAPES[rank][1]
    own = OWN[rank](channels, negative_slope=slope, inplace=inplace, dtype=dtype, **options)
    theirs = nn.Sequential(THEIRS[rank](channels, dtype=dtype, **options), nn.LeakyReLU(slope))
    if own.affine:
        with torch.no_grad():
            own.weight.copy_(normal(channels, seed=1) + 0.5)
            own.bias.copy_(normal(channels, seed=2))
    theirs[0].load_state_dict(own.state_dict())
    return own, theirs


def step(module, x, grad):
    """The output and all gradients."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(leaf * 1)  # no leaf: it may be overwritten
    y.backward(grad)
    gradients = [leaf.grad, *(p.grad.clone() for p in module.parameters())]
    module.zero_grad()
    return [y.detach(), *gradients]


def assert_alike(own, theirs, x, grad, tolerance):
    for a, b in zip(step(own, x, grad), step(theirs, x, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    for (name, a), (_, b) in zip(
        own.state_dict().items(), theirs[0].state_dict().items(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("slope", [0.01, 0.3, 0.0])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_values_and_gradients(rank, slope, inplace):
    if inplace and slope == 0:
        pytest.skip("ReLU cannot be undone")
    options = [
        {},
        {"momentum": None},
        {"affine": False},
        {"track_running_stats": False},
        {"eps": 0.1, "momentum": 0.5},
    ]
    for i, option in enumerate(options):
        own, theirs = pair(rank, slope, torch.float64, inplace, **option)
        for seed, training in enumerate([True, True, False, True]):
            own.train(training)
            theirs.train(training)
            x = normal(*SHAPES[rank], seed=10 * i + seed, dtype=torch.float64) * 3 + 1
            grad = normal(*SHAPES[rank], seed=99 - seed, dtype=torch.float64)
            assert_alike(own, theirs, x, grad, 1e-11)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_dtypes(dtype):
    """With parameters in float32, as autocast has them, and in the dtype of the input."""
    for own_dtype in {dtype, torch.float64 if dtype == torch.float64 else torch.float32}:
        own, theirs = pair(2, 0.1, own_dtype)
        x = normal(*SHAPES[2], dtype=dtype)
        grad = normal(*SHAPES[2], seed=1, dtype=dtype)
        assert_alike(own, theirs, x, grad, TOLERANCE[dtype])
        own.eval()
        theirs.eval()
        assert_alike(own, theirs, x, grad, TOLERANCE[dtype])
        assert own(x).dtype == dtype


def test_unrolled_sequences_and_sizes():
    for shape in [(2, 1), (97, 7), (5, 3, 1), (1, 3, 7), (0, 3), (7, 0)]:
        own, theirs = ft.BatchNormLeakyReLU1d(shape[1]), nn.BatchNorm1d(shape[1])
        x = normal(*shape)
        y = own(x)
        assert y.shape == shape
        if x.numel():
            torch.testing.assert_close(y, nn.functional.leaky_relu(theirs(x)))
        assert torch.isfinite(own.running_mean).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("rank", [1, 2])
def test_gradcheck(rank, inplace, training):
    shape = (4, 3) if rank == 1 else (3, 2, 2, 2)
    module = OWN[rank](shape[1], negative_slope=0.2, inplace=inplace, dtype=torch.float64)
    module.momentum = 0.0  # one function, however often it is called
    module.running_mean.add_(0.3)
    module.train(training)

    def function(x, weight, bias):
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(module, parameters, (x * 1,))

    x = normal(*shape, dtype=torch.float64).requires_grad_()
    weight = (normal(shape[1], seed=3, dtype=torch.float64) + 2).requires_grad_()
    bias = normal(shape[1], seed=4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(function, (x, weight, bias), check_undefined_grad=False)


@pytest.mark.parametrize("inplace", [True, False])
def test_memory_formats_are_kept(inplace):
    for rank, layout in [(2, torch.channels_last), (3, torch.channels_last_3d)]:
        own, theirs = pair(rank, inplace=inplace)
        x = normal(*SHAPES[rank]).to(memory_format=layout)
        for grad in (normal(*SHAPES[rank], seed=1), torch.ones(()).expand(SHAPES[rank])):
            assert_alike(own, theirs, x, grad, 3e-5)
        leaf = x.clone().requires_grad_()
        y = copy.deepcopy(own)(leaf * 1)
        y.sum().backward()
        assert y.is_contiguous(memory_format=layout)
        assert leaf.grad.is_contiguous(memory_format=layout)
        assert_alike(
            own,
            theirs,
            normal(3, *SHAPES[rank])[1].transpose(-1, -2).contiguous().transpose(-1, -2),
            grad,
            3e-5,
        )


def test_gaps_between_elements():
    own, theirs = pair(1)
    wide = normal(33, 14)
    assert_alike(own, theirs, wide[:, ::2], normal(33, 7, seed=1), 3e-5)
    leaf = wide.clone().requires_grad_()
    assert own(leaf[:, ::2]).is_contiguous()
    with pytest.raises(ValueError, match=r"`(out|input)` must be dense"):
        pair(1, inplace=True)[0](wide[:, ::2])


def test_autocast_in_bfloat16():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), ft.BatchNormLeakyReLU2d(6))
    peer = nn.Sequential(copy.deepcopy(model[0]), nn.BatchNorm2d(6), nn.LeakyReLU())
    x = normal(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, z = model(x), peer(x)
    assert y.dtype == z.dtype == torch.bfloat16
    torch.testing.assert_close(y, z, rtol=2e-2, atol=2e-2)
    y.float().sum().backward()
    z.float().sum().backward()
    assert model[1].weight.grad.dtype == torch.float32
    torch.testing.assert_close(model[0].weight.grad, peer[0].weight.grad, rtol=0.1, atol=0.1)


def test_it_is_a_batch_norm():
    own, theirs = pair(2)
    assert isinstance(own, nn.modules.batchnorm._BatchNorm)
    assert isinstance(own, nn.BatchNorm2d)
    assert list(own.state_dict()) == list(theirs[0].state_dict())
    own(normal(*SHAPES[2]))
    theirs[0].load_state_dict(own.state_dict())
    own.load_state_dict(theirs[0].state_dict())
    assert "negative_slope=0.01" in repr(own)
    assert "inplace=True" in repr(ft.BatchNormLeakyReLU1d(3, inplace=True))


def test_copies_and_pickles():
    own, _ = pair(1, 0.2)
    file = io.BytesIO()
    torch.save(own, file)
    file.seek(0)
    x = normal(*SHAPES[1])
    for other in (copy.deepcopy(own), torch.load(file, weights_only=False)):
        torch.testing.assert_close(other(x), own(x), rtol=0, atol=0)
        own.running_mean.zero_()


def test_inference_mode_and_no_grad_record_nothing():
    own, theirs = pair(1)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y = own(normal(*SHAPES[1]))
        assert not y.requires_grad
        theirs[0](normal(*SHAPES[1]))
    torch.testing.assert_close(own.running_var, theirs[0].running_var)


def test_frozen_parameters_get_no_gradients():
    own, _ = pair(1)
    own.weight.requires_grad_(False)
    y = own(normal(*SHAPES[1]))
    y.sum().backward()
    assert own.weight.grad is None
    assert own.bias.grad is not None


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_many_gradients_at_a_time(inplace, training):
    own, theirs = pair(1, dtype=torch.float64, inplace=inplace)
    x = normal(*SHAPES[1], dtype=torch.float64).requires_grad_()
    grads = normal(3, *SHAPES[1], seed=1, dtype=torch.float64)
    results = []
    for m in (own.train(training), theirs.train(training)):
        y = m(x * 1)
        (at_once,) = torch.autograd.grad(y, x, grads, is_grads_batched=True, retain_graph=True)

        def mapped(grad, y=y):
            return torch.autograd.grad(y, x, grad, retain_graph=True)[0]

        results.append([at_once, torch.func.vmap(mapped)(grads)])
    torch.testing.assert_close(*results)
    y, seeds = own(x * 1), grads.requires_grad_()
    (at_once,) = torch.autograd.grad(y, x, seeds, is_grads_batched=True, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        at_once.sum().backward()


def test_parametrized_weights():
    own, _ = pair(1)

    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    x = normal(*SHAPES[1])
    doubled = copy.deepcopy(own)
    nn.utils.parametrize.register_parametrization(doubled, "weight", Doubled())
    own.weight.data *= 2
    torch.testing.assert_close(doubled(x), own(x))


# ---- what is refused


def test_second_derivatives_are_refused():
    own, _ = pair(1)
    for training, inplace in itertools.product([True, False], [True, False]):
        own.train(training)
        own.inplace = inplace
        x = normal(*SHAPES[1]).requires_grad_()
        (grad,) = torch.autograd.grad((own(x * 1) ** 2).sum(), x, create_graph=True)
        assert grad.requires_grad
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            grad.sum().backward()


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match="expected 4D input"):
        ft.BatchNormLeakyReLU2d(3)(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"more than one value per channel.*shape=\(1, 3\)"):
        ft.BatchNormLeakyReLU1d(3)(torch.ones(1, 3))
    assert ft.BatchNormLeakyReLU1d(3).eval()(torch.ones(1, 3)).shape == (1, 3)
    with pytest.raises(ValueError, match="`input` must have `num_features`=3 channels"):
        ft.BatchNormLeakyReLU1d(3)(torch.ones(2, 4))
    with pytest.raises(TypeError, match="`input` must be float32"):
        ft.BatchNormLeakyReLU1d(3)(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"`weight` must be float64.*float32"):
        ft.BatchNormLeakyReLU1d(3)(torch.ones(2, 3, dtype=torch.float64))
    for module in (ft.BatchNormLeakyReLU1d(3), ft.SyncBatchNormLeakyReLU(3)):
        for given in ([[1.0, 2.0, 3.0]], None):
            with pytest.raises(TypeError, match=r"`input` must be a tensor\. Received: type="):
                module(given)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="`negative_slope` must be a number"):
        ft.BatchNormLeakyReLU1d(3, negative_slope="0.1")
    with pytest.raises(ValueError, match="`negative_slope` must be a finite number"):
        ft.BatchNormLeakyReLU1d(3, negative_slope=float("inf"))
    for slope in (0, -0.1):
        with pytest.raises(ValueError, match="`negative_slope` must be positive where `inplace`"):
            ft.BatchNormLeakyReLU1d(3, negative_slope=slope, inplace=True)
    own = ft.BatchNormLeakyReLU1d(3)
    own.momentum = float("inf")
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\]"):
        own(torch.ones(2, 3))
    assert (own.running_mean == 0).all()


def test_functional_arguments_are_refused():
    function = ft.functional.batch_norm_leaky_relu
    with pytest.raises(TypeError, match=r"`input` must be a tensor\. Received: type=list"):
        function([[1.0, 2.0]], None, None)
    x, ones = torch.ones(4, 3), torch.ones(3)
    with pytest.raises(ValueError, match=r"`bias` must have .*shape=\(2,\)"):
        function(x, ones, ones, ones, torch.ones(2))
    for training in (False, True):
        statistics = () if training else (ones, ones)
        with pytest.raises(ValueError, match=r"`weight` must have .*shape=\(2,\)"):
            function(x, *(statistics or (None, None)), torch.ones(2), training=training)
    with pytest.raises(ValueError, match=r"`input` must be \(N, C, ...\).*shape=\(3,\)"):
        function(torch.ones(3), None, None)
    with pytest.raises(ValueError, match="`running_mean` and `running_var` must be given"):
        function(torch.ones(2, 3), None, None)
    with pytest.raises(ValueError, match="must be given together"):
        function(torch.ones(2, 3), torch.ones(3), None, training=True)
    plain = function(torch.tensor([[-1.0], [1.0]]), None, None, training=True, negative_slope=None)
    torch.testing.assert_close(plain, torch.tensor([[-1.0], [1.0]]), rtol=1e-4, atol=1e-4)


# ---- in place


def test_in_place_keeps_one_tensor():
    own, _ = pair(1, 0.2, inplace=True)
    x = normal(*SHAPES[1]).requires_grad_()
    for training in (True, False):
        own.train(training)
        z = x * 1
        saved = []
        keep = saved.append
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda _: None):
            y = own(z)
        assert y.data_ptr() == z.data_ptr()
        assert [t.data_ptr() for t in saved if t.shape == x.shape] == [y.data_ptr()]


@pytest.mark.parametrize("training", [True, False])
def test_misuse_of_in_place_raises(training):
    own, _ = pair(1, 0.2, inplace=True)
    own.train(training)
    x = normal(*SHAPES[1]).requires_grad_()
    with pytest.raises(RuntimeError, match="must not be a leaf"):
        own(x)
    assert torch.equal(x, normal(*SHAPES[1]))
    root = x * 1
    squared = root**2  # saved its input
    own(root)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        squared.sum().backward()
    y = own(x * 1)
    y.add_(1)  # y is what was saved
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    pieces = (x * 1).unbind(0)
    rows = pieces[0].reshape(1, 7)
    if not training:
        before = rows.detach().clone()
        with pytest.raises(RuntimeError, match="view"):
            own(rows)
        assert torch.equal(rows, before)
    own.weight.data[2] = 0
    z = x * 1
    with pytest.raises(ValueError, match=r"`weight` must not be zero.*weight\[2\]=0\.0, bias"):
        own(z)
    assert torch.equal(z, x)


def test_a_later_reader_of_what_was_overwritten_gets_the_output():
    own, theirs = pair(1, 0.2, inplace=True)
    gradients = []
    for module in (own, theirs):
        x = normal(*SHAPES[1]).requires_grad_()
        z = x * 1
        y = module(z)
        total = y + (z if module is own else y)
        gradients.append(torch.autograd.grad(total.square().sum(), x)[0])
    torch.testing.assert_close(*gradients)


def test_views_may_be_overwritten_where_pytorch_lets_them():
    own, theirs = pair(1, 0.2, inplace=True)
    x = normal(66, 7)
    results = []
    for module in (own, theirs):
        leaf = x.clone().requires_grad_()
        base = leaf * 1
        y = module(base[:33])
        (y.sum() * 2 + (base[33:] ** 2).sum() + (y**2).sum()).backward()
        results.append(leaf.grad)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_changed_statistics_are_noticed():
    own, _ = pair(1)
    x = normal(*SHAPES[1]).requires_grad_()
    y = own.eval()(x)
    own.train()(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_checkpoints():
    own, theirs = pair(1)
    own.momentum = theirs[0].momentum = 0.0  # the forward pass runs twice
    x, grad = normal(*SHAPES[1]), normal(*SHAPES[1], seed=1)

    def checkpointed(module):
        run = torch.utils.checkpoint.checkpoint
        wrapped = nn.Module()
        wrapped.module = module
        wrapped.forward = lambda x: run(module, x, use_reentrant=False)
        return wrapped

    for a, b in zip(step(checkpointed(own), x, grad), step(theirs, x, grad), strict=True):
        torch.testing.assert_close(a, b, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_other_numbers_of_channels_are_refused_by_name(options):
    module = ft.BatchNormLeakyReLU1d(3, **options)
    match = r"`input` must have `num_features`=3 channels.*Received: shape=\(4, 5\)"
    for training in (True, False):
        module.train(training)
        with pytest.raises(ValueError, match=match):
            module(torch.ones(4, 5))
    if module.num_batches_tracked is not None:
        assert module.num_batches_tracked == 0
    free = ft.BatchNormLeakyReLU1d(3, affine=False, track_running_stats=False)
    assert free(torch.randn(4, 5)).shape == (4, 5)  # as in PyTorch
