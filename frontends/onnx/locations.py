"""Where a node comes from in the user's program, read from what exporters leave in names and metadata.

torch's exporter over torch.export writes `pkg.torch.onnx.*` metadata on each node; its older, tracing exporter names a
node "/layer1/layer1.0/conv1/Conv" after the modules around it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePath

from onnx import NodeProto

from ...ir import Loc
from ...ir.locations import SCOPE_KEY, SOURCE_KEY, TORCH_SCOPES, TORCH_TRACE
from .strings import text

_NAME = re.compile(r"""'([^'\\\n]*)'|"([^"\\\n]*)\"""")
_NAMES = re.compile(rf"\[(?:{_NAME.pattern}|, )*\]")
_FRAME = re.compile(r'File "([^"\n]*)", line (\d+)')


def location(node: NodeProto, name: str, op: str, call: Loc | None) -> Loc:
    """The node's place; `call` is that of the function call around a node from a function body."""
    if call is None and not name.startswith("/") and not len(node.metadata_props):
        return Loc(origin=name)
    metadata = tuple([(text(p.key), text(p.value)) for p in node.metadata_props]) if len(node.metadata_props) else ()
    scope = source = ""
    if metadata:
        known = dict(metadata)
        scope = known.pop(SCOPE_KEY, "") or _dynamo_scope(known.get(TORCH_SCOPES, ""))
        source = known.pop(SOURCE_KEY, "") or _source(known.get(TORCH_TRACE, ""))
        metadata = tuple(known.items())
    scope = scope or module_path(name, op)
    made = Loc(scope=scope, source=source, origin=name, metadata=metadata)
    if call is None:
        return made
    around = call.scope or call.origin
    return made._replace(
        scope=scope or around,
        source=source or call.source,
        origin="/".join(n for n in (call.origin, name) if n),
    )


def module_path(name: str, op: str) -> str:
    """The module path in a node name of torch's tracing exporter, or ''.

    "/layer1/layer1.0/conv1/Conv" is "layer1.0.conv1": a part that starts with the part before it and a dot replaces it.
    """
    parts = name.split("/")
    if parts[0] or len(parts) < 3 or re.sub(r"_\d+$", "", parts[-1]) != op:
        return ""
    path: list[str] = []
    for part in parts[1:-1]:
        if path and part.startswith(path[-1] + "."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


@lru_cache(maxsize=1 << 12)
def _dynamo_scope(written: str) -> str:
    """The innermost module of "['', 'layer1', 'layer1.0', 'conv2d']": the last entry is the operation itself."""
    if not _NAMES.fullmatch(written):
        return ""
    scopes = _NAME.findall(written)
    return "".join(scopes[-2]) if len(scopes) > 1 else ""


@lru_cache(maxsize=1 << 12)
def _source(trace: str) -> str:
    """ "file.py:line" of the innermost frame of a stack trace that is not inside torch itself."""
    frames = _FRAME.findall(trace)
    users = [f for f in frames if "-packages/torch/" not in f[0].replace("\\", "/")] or frames
    return f"{PurePath(users[-1][0]).name}:{users[-1][1]}" if users else ""
