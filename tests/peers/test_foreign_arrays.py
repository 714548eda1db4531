"""Arrays of other packages go in without a copy, and results come back as arrays of theirs."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fusednn import _core, ops

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(params=[True, False], ids=["exchange_api", "capsule"])
def route(request):
    """Tensors are read through the exchange API, and as those of releases that lack it."""
    before = _core.use_exchange_api(request.param)
    yield request.param
    _core.use_exchange_api(before)


def tensor(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def as_numpy(t):
    return t.float().numpy() if t.dtype == torch.bfloat16 else t.numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_torch_tensors_give_the_results_of_numpy_arrays(dtype, layout, route):
    x = tensor(4, 6, 5, 3, dtype=dtype).to(memory_format=layout)
    grad = tensor(4, 6, 5, 3, dtype=dtype, seed=1).to(memory_format=layout)
    parameter_type = torch.float64 if dtype == torch.float64 else torch.float32
    gamma, beta = tensor(6, seed=2).to(parameter_type), tensor(6, seed=3).to(parameter_type)
    y, mean, inv_std = ops.batch_norm_forward(x, gamma, beta, negative_slope=0.1)
    results = (y, mean, inv_std)
    results += ops.batch_norm_backward(grad, x, gamma, beta, mean, inv_std, negative_slope=0.1)
    assert all(isinstance(r, torch.Tensor) for r in results)
    assert (y.dtype, y.stride(), mean.dtype) == (dtype, x.stride(), parameter_type)

    def numpy_of(t):
        if t.dtype != torch.bfloat16:
            return t.numpy()
        ml_dtypes = pytest.importorskip("ml_dtypes")
        return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)

    n = [numpy_of(t) for t in (x, grad, gamma, beta)]
    own = ops.batch_norm_forward(n[0], n[2], n[3], negative_slope=0.1)
    own += ops.batch_norm_backward(n[1], n[0], n[2], n[3], *own[1:], negative_slope=0.1)
    for theirs, ours in zip(results, own, strict=True):
        np.testing.assert_array_equal(as_numpy(theirs), ours.astype(as_numpy(theirs).dtype))


def test_optimizers_step_torch_tensors_in_place(route):
    params, grads = [tensor(5, 3), tensor(7)], [tensor(5, 3, seed=1), tensor(7, seed=2)]
    peers = [torch.nn.Parameter(p.clone()) for p in params]
    states = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    optimizer = torch.optim.Adam(peers, lr=0.1)
    for step in range(1, 4):
        ops.adam_step(params, grads, *states, step=step, lr=0.1)
        for peer, grad in zip(peers, grads, strict=True):
            peer.grad = grad.clone()
        optimizer.step()
    for own, peer in zip(params, peers, strict=True):
        torch.testing.assert_close(own, peer.detach())


def test_out_may_be_of_another_package():
    out = np.empty(3, np.float32)
    ops.leaky_relu(torch.tensor([-1.0, 0.0, 2.0]), 0.5, out=out)
    np.testing.assert_array_equal(out, [-0.5, 0, 2])
    ops.leaky_relu(jnp.array([-2.0, 1.0, 4.0]), 0.5, out=out)
    np.testing.assert_array_equal(out, [-1, 1, 4])


def test_memory_is_held_only_while_it_is_used(route):
    x = np.ones(8, np.float32)
    references = sys.getrefcount(x)
    t = torch.from_numpy(x)
    assert sys.getrefcount(x) == references + 1
    own = sys.getrefcount(t)
    ops.leaky_relu(t, out=t)
    with pytest.raises(ValueError, match="`negative_slope` must be finite"):
        ops.leaky_relu(t, float("nan"), out=t)
    assert sys.getrefcount(t) == own
    del t
    assert sys.getrefcount(x) == references


def test_read_only_arrays_are_not_written():
    with pytest.raises(ValueError, match="`out` must be writable"):
        ops.leaky_relu(np.ones(3, np.float32), out=jnp.ones(3))


STRIDED = {
    "sliced": lambda t: torch.empty(*t.shape[:-1], 2 * t.shape[-1], dtype=t.dtype)[..., ::2],
    "transposed": lambda t: torch.empty(t.shape[::-1], dtype=t.dtype).permute(3, 2, 1, 0),
    "channels_last": lambda t: torch.empty_like(t, memory_format=torch.channels_last),
}


@pytest.mark.parametrize("how", STRIDED)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strided_tensors_give_the_results_of_contiguous_ones(how, dtype, route):
    x, grad = tensor(4, 6, 5, 3, dtype=dtype), tensor(4, 6, 5, 3, dtype=dtype, seed=1)
    strided = STRIDED[how](x).copy_(x)
    vector_type = torch.float64 if dtype == torch.float64 else torch.float32
    gamma = tensor(12, seed=2).to(vector_type)[::2]
    expected = ops.batch_norm_forward(x, gamma.contiguous(), None, negative_slope=0.1)
    results = ops.batch_norm_forward(strided, gamma, None, negative_slope=0.1)
    gradients = [
        ops.batch_norm_backward(grad, a, gamma.contiguous(), None, *r[1:], negative_slope=0.1)
        for a, r in ((x, expected), (strided, results))
    ]
    statistics = [ops.batch_norm_statistics(a) for a in (x, strided)]
    # The order of the axes in memory is that of the sums.
    tolerance = {"rtol": 0, "atol": 0} if how == "sliced" else {"rtol": 2e-2, "atol": 2e-2}
    assert results[0].stride() == torch.empty_like(strided).stride()
    for a, b in zip(results + gradients[1], expected + gradients[0], strict=True):
        torch.testing.assert_close(a, b, **tolerance)
    for a, b in zip(*(s[:2] for s in statistics), strict=True):
        torch.testing.assert_close(a, b)


def test_expanded_gradients_are_those_that_they_show(route):
    x, gamma = tensor(7, 5), tensor(5, seed=2)
    _, mean, inv_std = ops.batch_norm_forward(x, gamma, None)
    shown = torch.ones(()).expand(7, 5)
    results = [
        ops.batch_norm_backward(g, x, gamma, None, mean, inv_std) for g in (shown, shown.clone())
    ]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_results_are_never_written_to_a_copy(route):
    out = torch.zeros(4, 6)[:, ::2]
    with pytest.raises(ValueError, match=r"`out` must be dense.*strides=\(6, 2\)"):
        ops.leaky_relu(tensor(4, 3), out=out)
    with pytest.raises(ValueError, match=r"`running_mean` must be contiguous"):
        ops.batch_norm_forward(
            tensor(4, 3), None, None, running_mean=torch.zeros(6)[::2], running_var=torch.ones(3)
        )
    assert (out == 0).all()


def test_sizes(route):
    for shape in [(), (0,), (1,), (7,), (3, 0, 2), (1, 1, 97)]:
        x = tensor(*shape)
        torch.testing.assert_close(ops.leaky_relu(x, 0.1), torch.nn.functional.leaky_relu(x, 0.1))


def test_tensors_that_require_gradients_are_refused_where_gradients_are_recorded(route):
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"`x` must not require gradients.*`x\.detach\(\)`"):
        ops.leaky_relu(x)
    with pytest.raises(ValueError, match=r"`params\[1\]` must not require gradients"):
        ops.sgd_step([x.detach(), x], [x.detach()] * 2, None, step=1, lr=1.0)
    assert (x == 1).all()
    with torch.no_grad():
        assert torch.equal(ops.leaky_relu(-x, 0.5), torch.full((3,), -0.5))
        ops.sgd_step([x], [torch.ones(3)], None, step=1, lr=1.0)
    assert torch.equal(x, torch.zeros(3))


class Measured(torch.Tensor):
    """A subclass that has memory as any tensor."""


def test_parameters_and_subclasses(route):
    x = tensor(4, 3)
    expected = ops.leaky_relu(x)
    parameter, measured = torch.nn.Parameter(x.clone()), x.clone().as_subclass(Measured)
    with torch.no_grad():
        assert torch.equal(ops.leaky_relu(parameter), expected)
        assert torch.equal(ops.leaky_relu(measured).as_subclass(torch.Tensor), expected)


def without_memory():
    with FakeTensorMode():
        fake = torch.zeros(3)
    yield "meta", torch.zeros(3, device="meta")
    yield "fake", fake
    yield "zero", torch._efficientzerotensor((3,))
    yield "sparse", torch.eye(3).to_sparse()
    yield "functional", torch._to_functional_tensor(torch.zeros(3))


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning")
@pytest.mark.parametrize("kind", ["meta", "fake", "zero", "sparse", "functional"])
def test_tensors_without_memory_are_refused(kind, route):
    x = dict(without_memory())[kind]
    with pytest.raises((TypeError, BufferError, ValueError, RuntimeError)) as refusal:
        ops.leaky_relu(x, out=torch.empty(3))
    assert "`x` must" in str(refusal.value) or not route or kind == "fake", refusal.value


def test_tensors_of_transforms_are_refused(route):
    """Within torch.func tensors stand for others; the functions of fusednn.torch know."""
    for transform in (torch.func.vmap, torch.func.functionalize):
        with pytest.raises((TypeError, RuntimeError), match=r"storage|memory|rule"):
            transform(lambda x: ops.leaky_relu(x, out=torch.empty(3)))(torch.ones(2, 3))


def test_negated_views_are_refused(route):
    imaginary = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    for view in (imaginary, imaginary[:1], imaginary[0]):
        with pytest.raises(ValueError, match=r"`x` must hold its own values.*`x.resolve_neg\(\)`"):
            ops.leaky_relu(view)
        resolved = ops.leaky_relu(view.resolve_neg(), 1.0)
        torch.testing.assert_close(resolved, view.resolve_neg())


def test_other_dtypes_are_refused_by_name(route):
    with pytest.raises(TypeError, match=r"`x` must be float32.*dtype=torch\.int64"):
        ops.leaky_relu(torch.arange(3))


def test_layout_of_the_exchange_api():
    """The structs of core/dlpack.h against the header that PyTorch was compiled with."""
    include = Path(torch.__file__).parent / "include"
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    pairs = {
        "Tensor": "DLTensor data=data device=device ndim=ndim dtype=dtype shape=shape "
        "strides=strides byte_offset=byte_offset",
        "Managed": "DLManagedTensor tensor=dl_tensor context=manager_ctx deleter=deleter",
        "ManagedVersioned": "DLManagedTensorVersioned version=version context=manager_ctx "
        "deleter=deleter flags=flags tensor=dl_tensor",
        "ExchangeHeader": "DLPackExchangeAPIHeader version=version previous=prev_api",
        "ExchangeApi": "DLPackExchangeAPI header=header allocate=managed_tensor_allocator "
        "managed_from_object=managed_tensor_from_py_object_no_sync "
        "managed_to_object=managed_tensor_to_py_object_no_sync "
        "tensor_from_object=dltensor_from_py_object_no_sync current_stream=current_work_stream",
    }
    checks = ["#include <cstddef>", '#include "core/dlpack.h"', "#include <ATen/dlpack.h>"]
    for own, theirs in pairs.items():
        their_type, *members = theirs.split()
        own_type = f"fusednn::dlpack::{own}"
        checks.append(f"static_assert(sizeof({own_type}) == sizeof({their_type}));")
        for own_member, their_member in (m.split("=") for m in members):
            ours = f"offsetof({own_type}, {own_member})"
            checks.append(f"static_assert({ours} == offsetof({their_type}, {their_member}));")
            size = f"sizeof({own_type}::{own_member})"
            checks.append(f"static_assert({size} == sizeof({their_type}::{their_member}));")
    codes = {"kCpu": "kDLCPU", "kCuda": "kDLCUDA", "kCudaHost": "kDLCUDAHost"}
    codes |= {"kCudaManaged": "kDLCUDAManaged", "kFloat": "kDLFloat", "kBFloat": "kDLBfloat"}
    for own, theirs in codes.items():
        checks.append(f"static_assert(int(fusednn::dlpack::{own}) == int({theirs}));")
    command = [compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    includes = [f"-I{folder}" for folder in (ROOT / "csrc", ROOT / "csrc/include", include)]
    result = subprocess.run(
        [*command, *includes], input="\n".join(checks), text=True, capture_output=True
    )
    assert result.returncode == 0, result.stderr
