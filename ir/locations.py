"""Where a node comes from in the user's model; rewrites keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Loc(NamedTuple):
    """A place in the user's model.

    `scope` is the module path ("layer1.0.conv3"), `source` a file and line ("resnet.py:155"), `origin` the node's name
    in the file it was read from, `fused` the locations of all nodes that a rewrite merged into this one, `rule` the
    rewrite rule that made it, `metadata` key and value pairs that an exporter attached to the node.
    """

    scope: str = ""
    source: str = ""
    origin: str = ""
    fused: tuple[Loc, ...] = ()
    rule: str = ""
    metadata: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        place = self.scope or self.origin
        return f"{place} ({self.source})" if place and self.source else place or self.source


NOWHERE = Loc()

SCOPE_KEY, SOURCE_KEY = "pkg.tersor.scope", "pkg.tersor.source"
"""Keys of node metadata in ONNX files under which the module path and the source line of a node are kept."""

TORCH_SCOPES, TORCH_TRACE = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.stack_trace"
"""Keys under which torch's exporter keeps the same."""


def fuse(primary: Loc, others: Sequence[Loc], rule: str = "") -> Loc:
    """The location of a node that replaces several: `primary`'s, remembering every distinct origin."""
    parts: dict[Loc, None] = {}
    for loc in (primary, *others):
        for leaf in loc.fused or (loc,):
            parts[leaf._replace(rule="") if leaf.rule else leaf] = None
    parts.pop(NOWHERE, None)
    return primary._replace(fused=tuple(parts) if len(parts) > 1 else (), rule=rule or primary.rule)
