"""How many threads a training from the command line uses, and that it gives them back."""

from __future__ import annotations

import sys

import pytest

import fusednn
from fusednn import blas_threads
from fusednn.cli.threads import training_threads


class TestThreads:
    @staticmethod
    def product_threads() -> int:
        """Of the OpenBLAS that NumPy is linked to; SciPy has another one."""
        found = blas_threads._find_openblas()
        assert not isinstance(found, str)
        return found.num_threads

    @pytest.mark.skipif(
        not blas_threads.can_share_blas_threads(), reason="NumPy's BLAS cannot share threads"
    )
    @pytest.mark.parametrize(
        ("count", "product", "kernels", "products"),
        [(3, 1, 3, 3), (3, 1 << 30, 3, 3), (None, 1, None, 1), (None, 1 << 30, None, None)],
        ids=["given", "given-large", "small", "large"],
    )
    def test_inside_and_after(
        self, count: int | None, product: int, kernels: int | None, products: int | None
    ) -> None:
        threadpoolctl = pytest.importorskip("threadpoolctl", reason="reaches NumPy's threads")
        before = fusednn.get_num_threads()
        with threadpoolctl.threadpool_limits(before + 1, user_api="blas"):
            with training_threads(count, product):
                assert fusednn.get_num_threads() == (kernels or before)
                assert self.product_threads() == (products or before)
            assert fusednn.get_num_threads() == before
            assert self.product_threads() == before + 1

    @pytest.mark.parametrize(("count", "products"), [(3, 3), (None, 2)])
    def test_with_another_blas(
        self, monkeypatch: pytest.MonkeyPatch, count: int | None, products: int
    ) -> None:
        """What cannot share is limited through threadpoolctl, where a number was given."""
        threadpoolctl = pytest.importorskip("threadpoolctl", reason="reaches NumPy's threads")
        monkeypatch.setattr(blas_threads, "can_share_blas_threads", lambda: False)
        limits = threadpoolctl.threadpool_limits(2, user_api="blas")
        with limits, training_threads(count, 1 << 30):
            found = threadpoolctl.ThreadpoolController().select(user_api="blas").info()
            assert {pool["num_threads"] for pool in found} == {products}

    def test_training_that_shares_goes_on_sharing(self) -> None:
        if not blas_threads.can_share_blas_threads():
            pytest.skip("NumPy's BLAS cannot share threads")
        with blas_threads.shared_blas_threads() as shared:
            assert shared
            with training_threads(None, 1 << 30):
                pass
            assert blas_threads._shared is not None
        assert blas_threads._shared is None

    def test_without_threadpoolctl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
        before = fusednn.get_num_threads()
        with training_threads(before + 1, 1):
            assert fusednn.get_num_threads() == before + 1
        assert fusednn.get_num_threads() == before
