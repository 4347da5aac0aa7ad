"""The text of model.py: a graph walked by the emitter, tidied, named and laid out as a module."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ...ir import Model, Tensor, TensorType, Value
from .classes import extract
from .code import Variable, literal, sequence
from .columns import function
from .emitter import Emitter
from .folding import prepared
from .helpers import sources
from .layout import statement
from .members import TORCH_TYPES
from .names import class_name, path_of, plain_text
from .program import drop, members_in, name_variables, render, tidy
from .rolling import Item, Line, flat, lines, returned, roll, roll_series, shortened
from .sizes import sizes_of
from .table import TABLE

GENERATED_TITLE = re.compile(
    r"(?:(?:main|torch|jit|graph|model|net|g|export|exported|tf2onnx|onnx|program)[-_ ]?)*[-_\d]*\Z", re.IGNORECASE
)
"""Graph names that say nothing."""

SHOWN_RESULTS = 6


@dataclass(frozen=True)
class Source:
    """An emitted file: its text, the class in it, and the tensors of its state_dict by key.

    `constants` are the keys of buffers that are computed ahead of time, which the original state_dict has not.
    """

    text: str
    class_name: str
    weights: dict[str, Tensor]
    constants: frozenset[str] = frozenset()


def generate(model: Model, *, name: str | None = None, stem: str = "model") -> Source:
    """The source of a module that computes `model`, whose weights will stand in `<stem>.safetensors` next to it.

    Raises UnsupportedError with its location for the first operator, form or element type that cannot be expressed.
    """
    model, contents = prepared(model)
    e = Emitter(model, TABLE, sizes_of, contents)
    e.run()
    drop(e.block)
    e.members.prune(members_in(e.block))
    second_names(e, model)
    title = class_name(name or ("" if GENERATED_TITLE.match(model.graph.name) else model.graph.name))
    sizes = {variable for size in e.dimensions.values() for variable in size.variables()}
    classes = extract(e.block, e.members, e.parameters, sizes, title, model.classes)
    tidy(e.block, e.members.names())
    names = {**name_variables(e.block, e.parameters), **e.members.names()}
    if e.members.needs_block or any(re.search(r"\bBlock\(", line) for line in classes):
        e.helper("Block")
    code = [
        "    def __init__(self) -> None:",
        *e.members.lines(2),
        "",
        *forward(e, model, names),
    ]
    functions = [line for text in sources(e.helpers) for line in ("", "", *text.split("\n"))]
    text = [
        *docstring(model, title, [names[p] for p in e.parameters], stem),
        *imports([*functions, *classes, *code]),
        *functions,
        *classes,
        "",
        "",
        f"class {title}({e.members.base}):",
        f'    """{class_line(model)}"""',
        "",
        *code,
        "",
        "",
        *loader(title, stem, suffixes(e.members.constants, e.members.weights)),
    ]
    return Source("\n".join(text) + "\n", title, e.members.weights, frozenset(e.members.constants))


def second_names(e: Emitter, model: Model) -> None:
    """Gives modules that the original held under two names both of them."""
    groups: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for key, tensor in model.keys.items():
        path = path_of(key)
        if path is not None and len(path) > 1 and key not in e.members.weights and not path[-2].isdigit():
            groups.setdefault(path[:-1], {})[path[-1]] = tensor
    for path, tensors in groups.items():
        e.members.alias(path, tensors)


def forward(e: Emitter, model: Model, names: dict[Variable, str]) -> list[str]:
    """The method `forward`."""
    results = [r.render(names) for r in e.block.results]
    note = shape_note(model.graph.outputs[0]) if len(results) == 1 else ""
    lists, taken = e.members.lists(), set(names.values())
    body = roll_series(roll(render(e.block, names), lists, taken), e.members.series_in(e.members.root), taken)
    body = shortened(body, lists, e.members.groups(), taken)
    body, result, noted = returned(headed(body), ", ".join(results))
    several = "Tensor, ..." if len(results) > SHOWN_RESULTS else ", ".join("Tensor" for _ in results)
    kind = "Tensor" if len(results) == 1 else f"tuple[{several}]"
    return [
        *function("forward", [f"{names[p]}: Tensor" for p in e.parameters], kind),
        *lines([*body, Line(f"return {result}", note or noted)], 2),
    ]


def headed(items: Sequence[Item]) -> list[Item]:
    """Statements without the headings that say what the first line below them says."""

    def says_nothing(item: Item) -> bool:
        path = re.sub(r"\.(\d+)", r'(?:\\[\1\\]|\\["\1"\\])', item.heading)
        return bool(item.heading) and re.search(rf"\bself\.{path}(?!\w)", flat(item)) is not None

    return [replace(item, heading="") if says_nothing(item) else item for item in items]


def docstring(model: Model, title: str, parameters: Sequence[str], stem: str) -> list[str]:
    """What the network is, and its inputs and outputs with element types and shapes."""
    text = [f'"""{title}, a PyTorch module with its weights in {stem}.safetensors.', "", "Inputs:"]
    for name, value in zip(parameters, model.graph.inputs, strict=True):
        text.append(f"    {name}: {described(value)}")
    text += ["", "Outputs:"]
    for value, name in zip(model.graph.outputs, model.graph.output_names, strict=True):
        text.append(f"    {plain_text(name) or 'result'}: {described(value)}")
    return [*text, '"""', ""]


def described(value: Value) -> str:
    """Element type and shape in words."""
    if not isinstance(value.type, TensorType):
        return "a tensor"
    dtype = TORCH_TYPES.get(value.type.dtype, value.type.dtype.label)
    if value.type.shape is None:
        return f"{dtype} of any shape"
    return f"{dtype} {shape_note(value)}" if value.type.shape else f"{dtype} scalar"


def shape_note(value: Value) -> str:
    if not value.shape:
        return ""
    return plain_text("[" + ", ".join("?" if "?" in str(d) else str(d) for d in value.shape) + "]")


def class_line(model: Model) -> str:
    inputs, outputs = len(model.graph.inputs), len(model.graph.outputs)
    return f"The network: {inputs} input{'s' * (inputs != 1)}, {outputs} output{'s' * (outputs != 1)}."


def imports(code: Sequence[str]) -> list[str]:
    """The imports that the code needs, sorted as isort does."""
    text = "\n".join(code)
    found = ["from collections import OrderedDict"] if "OrderedDict(" in text else []
    found += ["from collections.abc import Callable"] if "Callable[" in text else []
    found += ["from pathlib import Path", ""]
    if re.search(r"\btorch\.", text):
        found.append("import torch")
    if re.search(r"\bF\.", text):
        found.append("import torch.nn.functional as F")
    return [*found, "from safetensors.torch import load_file", "from torch import Tensor, nn"]


def suffixes(constants: Collection[str], keys: Collection[str]) -> list[str]:
    """What the keys of constants, and no others, end in."""
    last = sorted({key.rpartition(".")[2] for key in constants})
    plain = not any(key.endswith(tuple(last)) for key in keys if key not in constants)
    return last if plain else sorted(constants)


def loader(title: str, stem: str, constants: Sequence[str]) -> list[str]:
    """The function `load`; what ends in one of `constants` is in no state_dict of the module that it gives."""
    file = f'Path(__file__).with_name("{stem}.safetensors")'
    lines = [
        f"def load(weights: str | Path | None = None) -> {title}:",
        '    """The network for inference, with its trained weights from the file next to this one."""',
        f"    model = {title}()",
    ]
    if not constants:
        return [*lines, f"    model.load_state_dict(load_file(weights or {file}))", "    return model.eval()"]
    named = sequence([literal(c) for c in constants], "(", ")").render({})
    return [
        *statement(f"CONSTANTS = {named}", 0),
        '"""What buffers are called that are computed ahead of time and are in no state_dict."""',
        "",
        "",
        *lines,
        f"    model.load_state_dict(load_file({file}))",
        "    for name, value in list(model.named_buffers()):",
        "        if name.endswith(CONSTANTS):",
        '            module, _, leaf = name.rpartition(".")',
        "            setattr(model.get_submodule(module), leaf, nn.Buffer(value, persistent=False))",
        "    if weights is not None:",
        "        model.load_state_dict(load_file(weights))",
        "    return model.eval()",
    ]
