"""The entry: exporting a module, making a program functional or decomposing an operator where that is needed, and
importing it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch._decomp import get_decompositions
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from ...ir import Model, UnsupportedError, UsageError
from .errors import UnknownOperatorsError
from .importer import Undecomposed, import_program
from .interface import size_names
from .locations import unsupported
from .mutation import Mutations, is_composite, mutates, mutations, written_operands
from .views import root_of


def from_exported(program: ExportedProgram, names: Mapping[str, str] | None = None) -> Model:
    """A Model that computes what an exported program computes; `names` renames its symbolic sizes.

    Parameters and buffers become constants that share the tensors' memory and are named as in the state dict. An
    operator without a lowering is decomposed, and that one alone. Raises UnknownOperatorsError where that does not
    help, UnsupportedError where the program keeps state.
    """
    found, given = mutations(program.graph_module), program
    certain = check_state(program, found) and found.certain
    if not certain or any(mutates(m) for m in wrapped_modules(program)) or is_transformed(program):
        program = program.run_decompositions({})
        check_results(program)
    try:
        return decomposing(program, names or {})
    except Undecomposed as unknown:
        operators = tuple(dict.fromkeys(str(target) for target in unknown.targets))
        raise UnknownOperatorsError(unknown.error, operators, given) from None


def decomposing(program: ExportedProgram, names: Mapping[str, str]) -> Model:
    """Imports a program, each time with the operators decomposed that stood in the way before. Raises Undecomposed."""
    tried: dict[Any, Undecomposed] = {}
    while True:
        try:
            return import_program(program, names)
        except Undecomposed as found:
            chosen = decompositions([t for t in found.targets if t not in tried])
            if not chosen:
                raise blamed(found, tried) from None
            tried.update(dict.fromkeys(chosen, found))
            try:
                program = program.run_decompositions(chosen)
            except Exception:  # torch's own decompositions fail on some programs
                raise blamed(found, {}) from None


def decompositions(targets: Sequence[Any]) -> dict[Any, Callable[..., Any]]:
    """How torch takes operators apart: in Python where it has a decomposition, else by a composite kernel."""
    chosen: dict[Any, Callable[..., Any]] = dict(get_decompositions(targets))
    for target in targets:
        if target not in chosen and isinstance(target, torch._ops.OpOverload) and is_composite(target):
            chosen[target] = partial(target._op_dk, torch._C.DispatchKey.CompositeImplicitAutograd)
    return chosen


def blamed(found: Undecomposed, tried: Mapping[Any, Undecomposed]) -> Undecomposed:
    """The error to show: that of the operator the user called, when it was its decomposition that led nowhere."""
    earlier = next((first for target, first in tried.items() if len(first.targets) == 1), None)
    if earlier is None or found.targets[0] in tried:
        return found
    first = earlier.error
    why = f"it has no row, and its decomposition uses {found.targets[0]}, which has none"
    return Undecomposed(UnsupportedError(first.what, where=first.where, why=why, do=first.do), earlier.targets)


def check_state(program: ExportedProgram, found: Mutations) -> bool:
    """Whether it is certain that the program leaves its own parameters and buffers alone. Raises UnsupportedError where
    it is certain that it changes them."""
    signature = program.graph_signature
    state = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    suspects = [(node, target) for node, target in found.inputs if target.name in state]
    for node, target in suspects:
        if any(root_of(operand) is target for operand in written_operands(node)):
            raise stateful(node, state[target.name])
    return not suspects


def check_results(program: ExportedProgram) -> None:
    """The same for a program made functional, in which such a change is an additional result."""
    nodes = {node.name: node for node in program.graph.nodes}
    for spec in program.graph_signature.output_specs:
        if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION):
            raise stateful(nodes[spec.arg.name], str(spec.target))


def stateful(node: torch.fx.Node, name: str) -> UnsupportedError:
    return unsupported(
        node,
        f"the module changes its own state {name}",
        "a graph keeps nothing from one call to the next",
        "give the state as an argument and return it",
    )


def is_transformed(program: ExportedProgram) -> bool:
    """Whether torch has to trace a program again for its operators to mean what they say: inside autocast they choose
    element types, inside vmap they have an axis more."""
    graphs = [program.graph_module, *wrapped_modules(program)]
    targets = [node for g in graphs for node in g.graph.nodes if node.op == "call_function"]
    return any(
        getattr(node.target, "__module__", "") == "torch._functorch.predispatch"
        or (getattr(node.target, "__name__", "") == "wrap_with_autocast" and node.args[2])
        for node in targets
    )


def wrapped_modules(program: ExportedProgram) -> Iterator[torch.fx.GraphModule]:
    """The submodules that higher-order operators run."""
    outer = program.graph_module
    yield from (m for m in outer.modules() if isinstance(m, torch.fx.GraphModule) and m is not outer)


def from_module(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
) -> Model:
    """A Model of a module in evaluation mode, traced with example arguments; sizes named in `dynamic_shapes` stay
    symbolic.

    `dynamic_shapes` is that of `torch.export.export`. The module's training flags are as before afterwards. Raises
    UsageError when torch cannot export the module, UnsupportedError as `from_exported` does.
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError("a torch.nn.Module is expected", why=f"a {type(module).__name__} was given")
    if not isinstance(args, tuple):
        raise UsageError(
            "the example arguments must be a tuple", why=f"a {type(args).__name__} was given", do="write args=(x,)"
        )
    with evaluating(module):
        try:
            program = torch.export.export(module, args, dict(kwargs or {}), dynamic_shapes=dynamic_shapes, strict=False)
        except Exception as error:
            raise UsageError(
                f"torch cannot export {type(module).__name__}",
                why="; ".join(line.strip() for line in str(error).split("\n\n")[0].splitlines())
                or type(error).__name__,
                do="make torch.export.export(module, args) work first",
            ) from error
    return from_exported(program, size_names(program, dynamic_shapes, inspect.signature(module.forward)))


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; attention modules take their ordinary path, which has operators that mean
    something."""
    flags = {m: m.training for m in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for m, training in flags.items():
            m.training = training
