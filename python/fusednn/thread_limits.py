"""fusednn's threads under threadpoolctl, beside those of BLAS and OpenMP."""

import functools


@functools.cache
def register_threadpoolctl() -> None:
    """Let ``threadpoolctl.threadpool_limits`` and ``threadpool_info`` know fusednn's thread pool.

    Its user API is ``"fusednn"``. Calling it again does nothing.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed (``pip install "fusednn[threadpoolctl]"``).

    Examples
    --------
    >>> import fusednn, threadpoolctl
    >>> fusednn.utils.register_threadpoolctl()
    >>> with threadpoolctl.threadpool_limits(1):
    ...     fusednn.get_num_threads()
    1
    """
    import ctypes

    import threadpoolctl

    class FusednnController(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "fusednn"
        internal_api = "fusednn"
        filename_prefixes = ("libfusednn.",)
        check_symbols = ("fnn_get_num_threads", "fnn_set_num_threads")

        def get_num_threads(self) -> int:
            count: int = self.dynlib.fnn_get_num_threads()
            return count

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.fnn_set_num_threads(ctypes.c_int32(num_threads))

        def get_version(self) -> str:
            self.dynlib.fnn_version.restype = ctypes.c_char_p
            version: bytes = self.dynlib.fnn_version()
            return version.decode()

    threadpoolctl.register(FusednnController)
