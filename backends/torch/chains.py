"""Modules that one tensor passes through: a container whose statements are a chain of calls is an `nn.Sequential`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from .code import Code, Member, Variable, call, raw
from .members import Container, Leaf
from .names import unused
from .progression import progression
from .regions import Region

OPERAND = "\0"
MOST = 6
"""From how many named steps on a `forward` reads better."""
TAKEN = frozenset({"append", "extend", "insert", "pop"})
"""What `nn.Sequential` has of its own besides what every module has."""
SHORT = 40
"""Columns that equal neighbours may take before they become a comprehension."""

MODULES = (
    (r"F\.(?:relu6?|hardswish|hardsigmoid|silu|mish|gelu|softplus|elu|celu|leaky_relu)\(\0(?:, (.*))?\)", ""),
    (r"\0\.clamp\(0, 6\)", "nn.ReLU6()"),
    (r"torch\.sigmoid\(\0\)", "nn.Sigmoid()"),
    (r"torch\.tanh\(\0\)", "nn.Tanh()"),
    (r"\0\.flatten\(1\)", "nn.Flatten()"),
    (r"F\.(max_pool|avg_pool|adaptive_avg_pool)([123])d\(\0, (.*)\)", ""),
)
"""Expressions over one operand without weights, and the modules that compute them."""

NAMES = {
    "relu": "nn.ReLU", "relu6": "nn.ReLU6", "hardswish": "nn.Hardswish", "hardsigmoid": "nn.Hardsigmoid",
    "silu": "nn.SiLU", "mish": "nn.Mish", "celu": "nn.CELU",
    "gelu": "nn.GELU", "softplus": "nn.Softplus", "elu": "nn.ELU", "leaky_relu": "nn.LeakyReLU",
    "max_pool": "nn.MaxPool", "avg_pool": "nn.AvgPool", "adaptive_avg_pool": "nn.AdaptiveAvgPool",
}  # fmt: skip


def sequential(region: Region) -> Code | None:
    """The `nn.Sequential` that a region is; None where it is none."""
    steps = chain(region)
    container = region.container
    members = {c.member: name for name, c in container.children.items() if isinstance(c, Leaf) and c.is_module}
    if steps is None or len(members) != len(container.children):
        return None
    order = [members[s] for s in steps if isinstance(s, Member) and s in members]
    if sorted(order) != sorted(members.values()) or len(order) != sum(isinstance(s, Member) for s in steps):
        return None
    if all(name.isdigit() for name in order):
        return placed(steps, members, container)
    return named(steps, order, container)


def chain(region: Region) -> list[Member | str] | None:
    """The modules and expressions that a tensor passes through; None where there is more than one tensor."""
    if len(region.inputs) != 1 or len(region.outputs) != 1:
        return None
    steps: list[Member | str] = []
    current = region.inputs[0]
    for item in region.statements:
        if list(item.value.variables()) != [current] or len(item.targets) != 1:
            return None
        step = step_of(item.value, current)
        if step is None:
            return None
        steps.append(step)
        current = item.targets[0]
    return steps if current is region.outputs[0] else None


def step_of(value: Code, operand: Variable) -> Member | str | None:
    """The module that an expression calls, or the text of one that does the same."""
    leaves = list(value.leaves())
    if isinstance(leaves[0], Member) and len(leaves) == 2:
        member = leaves[0]
        return member if value.render({member: "m", operand: OPERAND}) == f"m({OPERAND})" else None
    if len(leaves) != 1:
        return None
    text = value.render({operand: OPERAND})
    for pattern, module in MODULES:
        found = re.fullmatch(pattern, text)
        if found is not None:
            return module or written(text, found)
    return None


def written(text: str, found: re.Match[str]) -> str:
    """A module that takes the function's further arguments."""
    function = re.match(r"F\.([a-z_]+6?)(?:([123])d)?\(", text)
    assert function is not None
    return (
        f"{NAMES[function.group(1)]}{f'{function.group(2)}d' if function.group(2) else ''}({found.groups()[-1] or ''})"
    )


def placed(steps: Sequence[Member | str], members: dict[Member, str], container: Container) -> Code | None:
    """Children at their indices; what has no place between two of them leaves the container as it is."""
    made: list[Code] = []
    waiting: list[str] = []
    idle = 0
    for step in steps:
        if isinstance(step, str):
            waiting.append(step)
            continue
        index = int(members[step])
        gap = index - len(made) - len(waiting)
        if gap < 0:
            return None
        idle += gap
        made += [raw(t) for t in waiting] + [raw("nn.Identity()")] * gap
        waiting = []
        child = container.children[members[step]]
        assert isinstance(child, Leaf)
        made.append(child.value)
    if idle > len(members) + 1:
        return None
    return call("nn.Sequential", *joined([*made, *(raw(t) for t in waiting)]))


def named(steps: Sequence[Member | str], order: Sequence[str], container: Container) -> Code | None:
    """Children with numbered names and equal constructors, as one comprehension; or one child, a chain itself."""
    if len(order) == 1 and len(steps) == 1 and order[0].isidentifier():
        child = container.children[order[0]]
        assert isinstance(child, Leaf)
        return call("nn.Sequential", call("OrderedDict", **{order[0]: child.value})) if is_chain(child) else None
    stems = {re.sub(r"\d+$", "", name) for name in order}
    if any(isinstance(s, str) for s in steps) or len(stems) != 1 or len(order) < 2:
        return ordered(steps, order, container)
    stem = stems.pop()
    first = order[0][len(stem) :]
    if not stem or not first.isdigit() or [f"{stem}{int(first) + i}" for i in range(len(order))] != list(order):
        return None
    values = [c.value.render({}) for c in container.children.values() if isinstance(c, Leaf)]
    made = progression(values, int(first))
    if made is None:
        return ordered(steps, order, container)
    stop = int(first) + len(order)
    span = f"range({stop})" if int(first) == 0 else f"range({first}, {stop})"
    return raw(f'nn.Sequential(OrderedDict((f"{stem}{{i}}", {made}) for i in {span}))')


def ordered(steps: Sequence[Member | str], order: Sequence[str], container: Container) -> Code | None:
    """Children under their names, functions under those of their modules."""
    if len(steps) < 2 or len(steps) > MOST or not all(name.isidentifier() and name not in TAKEN for name in order):
        return None
    made: dict[str, Code] = {}
    waiting = iter(order)
    for step in steps:
        if isinstance(step, str):
            made[unused(step[len("nn.") : step.index("(")].lower(), {*order, *made})] = raw(step)
        else:
            name = next(waiting)
            child = container.children[name]
            assert isinstance(child, Leaf)
            made[name] = child.value
    return call("nn.Sequential", call("OrderedDict", **made))


def is_chain(leaf: Leaf) -> bool:
    """True for a child that is an `nn.Sequential` itself."""
    return leaf.value.render({}).startswith("nn.Sequential(")


def joined(values: Sequence[Code]) -> list[Code]:
    """Equal neighbours as one comprehension."""
    made: list[Code] = []
    for _, run in groupby(values, key=lambda v: v.render({})):
        same = list(run)
        text = same[0].render({})
        rolled = len(same) > 2 or (len(same) > 1 and len(same) * len(text) > SHORT)
        made += [raw(f"*({text} for _ in range({len(same)}))")] if rolled else same
    return made
