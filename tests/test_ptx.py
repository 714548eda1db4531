"""dev/ptx.py: what PTX must and must not have, found in text that is like nvcc's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("ptx", Path(__file__).parents[1] / "dev/ptx.py")
assert _spec is not None
assert _spec.loader is not None
ptx = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ptx)


def kernel(*instructions: str, name: str = "_Z11update_listv") -> str:
    lines = "\n".join(f"\t{instruction};" for instruction in instructions)
    return f""".version 9.0
.visible .entry {name}(
	.param .u64 {name}_param_0
)
.maxntid 256
{{
	.reg .f32 	%f<9>;
$L__BB0_2:
	// begin inline asm
	ld.global.cs.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd1];
	// end inline asm
	mul.rn.f32 	%f3, %f1, %f2;
{lines}
	@%p1 bra 	$L__BB0_2;
	ret;
}}
"""


@pytest.mark.parametrize(
    "instruction",
    [
        "mad.lo.s32 	%r5, %r1, %r2, %r3",
        "atom.acq_rel.gpu.global.add.u32 %r5, [%rd1], %r2",
        "div.rn.f32 	%f4, %f1, %f2",
        "sqrt.rn.f64 	%fd4, %fd1",
        "@%p2 st.global.f32 	[%rd1], %f1",
    ],
)
def test_what_may_be(instruction: str) -> None:
    assert ptx.problems(kernel(instruction)) == {}


@pytest.mark.parametrize(
    ("instruction", "problem"),
    [
        ("fma.rn.f32 	%f4, %f1, %f2, %f3", "fma.rn.f32 rounds a product and a sum once"),
        ("@!%p2 fma.rn.f64 	%fd4, %fd1, %fd2, %fd3", "fma.rn.f64 rounds a product and"),
        ("{fma.rn.bf16x2 %r1,%r2,%r3,%r4;}", "fma.rn.bf16x2 rounds a product and a sum once"),
        ("atom.global.add.f32 	%f4, [%rd1], %f1", "atom.global.add.f32 adds in no order"),
        ("red.global.add.f64 	[%rd1], %fd1", "red.global.add.f64 adds in no order of its own"),
        ("rsqrt.approx.f32 	%f4, %f1", "rsqrt.approx.f32 does not round as IEEE 754 does"),
        ("div.rn.ftz.f32 	%f4, %f1, %f2", "div.rn.ftz.f32 does not round as IEEE 754 does"),
    ],
)
def test_what_must_not_be(instruction: str, problem: str) -> None:
    ((name, said),) = ptx.problems(kernel(instruction)).items()
    assert name == "_Z11update_listv"
    assert [line.startswith(problem) for line in said] == [True]


def test_arrays_are_read_16_bytes_at_a_time() -> None:
    short = kernel().replace("ld.global.cs.v4.u32", "ld.global.cs.v2.u32")
    assert ptx.problems(short) == {"_Z11update_listv": ["reads nothing 16 bytes at a time"]}
    assert ptx.problems(short.replace("update_list", "merge_parts")) == {}
    for whole in ("ld.global.v2.u64", "ld.global.L1::no_allocate.v4.u32", "ld.global.nc.v4.f32"):
        assert ptx.problems(kernel().replace("ld.global.cs.v4.u32", whole)) == {}
