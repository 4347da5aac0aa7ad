"""How much a model may ask for, and the account that is checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import LimitError


@dataclass(frozen=True)
class Limits:
    """Upper bounds on what a file may make `load` do.

    `nodes` counts nodes after inlining functions; `tensor_bytes` all weights together, mapped or not; `expanded_bytes`
    what is made from less than its size in the file (sparse tensors); `depth` nested subgraphs and function calls.
    """

    nodes: int = 1_000_000
    tensor_bytes: int = 256 << 30
    expanded_bytes: int = 1 << 30
    depth: int = 64


DEFAULT = Limits()


class Account:
    """What one load has used so far. Every method raises LimitError when a limit would be passed."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nodes = self.tensor_bytes = self.expanded_bytes = self.depth = 0

    def node(self, where: object) -> None:
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            raise _over(f"the model has more than {self.limits.nodes} nodes", where, "nodes")

    def tensor(self, nbytes: int, where: object) -> None:
        self.tensor_bytes += nbytes
        if self.tensor_bytes > self.limits.tensor_bytes:
            raise _over(f"the model's tensors take more than {self.limits.tensor_bytes} bytes", where, "tensor_bytes")

    def expanded(self, nbytes: int, where: object) -> None:
        self.expanded_bytes += nbytes
        if self.expanded_bytes > self.limits.expanded_bytes:
            why = f"sparse tensors would take more than {self.limits.expanded_bytes} bytes when written out"
            raise _over(why, where, "expanded_bytes")

    def enter(self, where: object) -> None:
        """One subgraph or function call deeper; `leave` comes back."""
        self.depth += 1
        if self.depth > self.limits.depth:
            raise _over(f"subgraphs and functions are nested more than {self.limits.depth} deep", where, "depth")

    def leave(self) -> None:
        self.depth -= 1


def _over(what: str, where: object, field: str) -> LimitError:
    return LimitError(what, where=where, do=f"if you trust the file, load it with Limits({field}=...)")
