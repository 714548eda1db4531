"""The contenders, one file for each pair of a library and a family of cases.

Module ``<library>_<family>`` has ``build(case, name) -> Contender``; it raises `UnavailableError`
for what the library does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

#: What each library needs installed, keyed by the name of its process.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "fusednn": (),
    "numpy": (),
    "torch": ("torch",),
    "jax": ("jax", "optax"),
    "keras_torch": ("keras", "torch"),
    "keras_jax": ("keras", "jax"),
    "sklearn": ("sklearn",),
}


@dataclass(frozen=True)
class Peer:
    """A contender before it is built.

    Attributes
    ----------
    name : str
    library : str
        Whose modules build it.
    families : tuple of str
        Which cases it can do at all.
    apart : bool
        Whether it has a process of its own: what may take too long, and is ended then, must not
        take the library's other contenders with it.
    """

    name: str
    library: str
    families: tuple[str, ...]
    apart: bool = False

    @property
    def process(self) -> str:
        """Name of the process that it runs in."""
        return self.name if self.apart else self.library

    @property
    def is_roof(self) -> bool:
        """Whether this is no peer but the limit that all are judged by."""
        return self.name.startswith("roof")

    @property
    def is_ours(self) -> bool:
        """Whether this is fusednn."""
        return self.name.startswith("fusednn")

    @property
    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in REQUIREMENTS[self.library] if find_spec(name) is None]


_OPS = ("batch_norm", "leaky_relu")

PEERS: tuple[Peer, ...] = (
    Peer("roof", "fusednn", (*_OPS, "optimizer", "step")),
    Peer("roof-non-temporal", "fusednn", _OPS),
    Peer("fusednn", "fusednn", (*_OPS, "optimizer", "step", "neighbour")),
    Peer("fusednn-fresh", "fusednn", _OPS),
    Peer("fusednn-plain", "fusednn", ("optimizer",)),
    Peer("fusednn-torch", "torch", ("optimizer",)),
    Peer("fusednn-apart", "fusednn", ("step",)),
    Peer("fusednn-alone", "fusednn", ("neighbour",)),
    Peer("fusednn-one-thread", "fusednn", ("neighbour",)),
    Peer("numpy", "numpy", (*_OPS, "optimizer", "step")),
    Peer("torch", "torch", (*_OPS, "optimizer", "step")),
    Peer("torch-aten", "torch", _OPS),
    Peer("torch-foreach", "torch", ("optimizer",)),
    Peer("torch-fused", "torch", ("optimizer", "step")),
    Peer("torch-compile", "torch", (*_OPS, "optimizer", "step"), apart=True),
    Peer("onednn", "torch", ("batch_norm",)),
    Peer("jax", "jax", (*_OPS, "optimizer", "step")),
    Peer("keras-torch", "keras_torch", (*_OPS, "optimizer", "step")),
    Peer("keras-jax", "keras_jax", (*_OPS, "optimizer", "step")),
    Peer("sklearn", "sklearn", ("step",)),
)


def select_peers(names: list[str], without: list[str] | None = None) -> list[Peer]:
    """Return the peers to run, the roof and fusednn's forms on NumPy always among them.

    Parameters
    ----------
    names : list of str
        Of peers or of libraries, which stand for all their peers; empty: all that are installed.
    without : list of str
        Left out.

    Raises
    ------
    ValueError
        If a name is unknown, or a chosen peer is not installed.
    """
    chosen = {peer for peer in PEERS if peer.library == "fusednn"}
    for name in names:
        found = _named(name, "--peers")
        missing = sorted({package for peer in found for package in peer.missing})
        if missing:
            raise ValueError(f"{name} needs {', '.join(missing)}, which is not installed")
        chosen.update(found)
    if not names:
        chosen.update(peer for peer in PEERS if not peer.missing)
    for name in without or ():
        if name == "fusednn":
            raise ValueError(
                "--without cannot leave out fusednn, which all others are compared with; "
                "--without fusednn-fresh leaves out its runs with new output buffers"
            )
        chosen.difference_update(_named(name, "--without"))
    return [peer for peer in PEERS if peer in chosen]


def _named(name: str, option: str) -> list[Peer]:
    found = [
        peer
        for peer in PEERS
        if not peer.is_roof and name in (peer.name, peer.library.replace("_", "-"))
    ]
    if not found:
        known = ", ".join(peer.name for peer in PEERS if not peer.is_roof)
        raise ValueError(f"{option} must be among {known}. Received: {name}")
    return found
