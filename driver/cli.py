"""The command line: `tersor VERB ...`. Results go to stdout, progress and messages to stderr.

Exit codes: 0 ok, 1 goal missed (the best effort is saved), 2 usage, 3 unsafe or invalid input, 4 parity failure, 130
interrupted.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata

from ..ir import TersorError, UsageError
from ..transforms.quantize.placement import TARGETS
from ..transforms.simplify import PROMISES
from . import commands

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; a TersorError is printed as it is, without a traceback."""
    _prepare_streams()
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return options.run(options)
    except TersorError as error:
        print(f"tersor: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tersor: interrupted; nothing was left half written", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"tersor: there is not enough memory{f': {error}' if str(error) else ''}", file=sys.stderr)
        return TersorError.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # the reader went away; keep the interpreter's exit quiet
        return 0
    except OSError as error:  # a disk that is full, a name that is too long, a folder that is not ours
        place = f"{error.filename}: " if error.filename is not None else ""
        print(f"tersor: {place}{error.strerror or error}", file=sys.stderr)
        return UsageError.exit_code


def _prepare_streams() -> None:
    """Nothing that the streams cannot do is a reason to stop: show a name, or be there at all."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _warn(message: Warning | str, *_: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="tersor", description="A compiler for trained neural networks.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"tersor {metadata.version('tersor')}")
    verbs = top.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    for name, (summary, add_arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        verb.set_defaults(run=getattr(commands, name))
        add_arguments(verb)
        verb.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
        verb.add_argument("--quiet", action="store_true", help="print no progress and no notes")
    return top


def _inspect(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="an ONNX file")
    verb.add_argument("--text", action="store_true", help="print the graph in the text form")


def _simplify(verb: argparse.ArgumentParser) -> None:
    _transform(verb)
    levels = ["deploy", "train"]
    verb.add_argument(
        "--level", choices=levels, default="deploy", help="train keeps parameters apart (default: deploy)"
    )

    promises = f"a promise about the inputs that lets more rules apply; may be repeated: {', '.join(PROMISES)}"
    verb.add_argument("--assume", action="append", default=[], choices=list(PROMISES), metavar="PROMISE", help=promises)


def opset(text: str) -> str | int:
    """`keep` (the model's own), `best` (the newest that runs) or a number. Raises ValueError otherwise."""
    return text if text in ("keep", "best") else int(text)


def natural(text: str) -> int:
    """A number from 0 on. Raises ValueError otherwise."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def bound(text: str) -> float:
    """A finite number from 0 on. Raises ValueError otherwise."""
    if not 0 <= (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 on")
    return number


def positive(text: str) -> int:
    """A number from 1 on. Raises ValueError otherwise."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def multiple(text: str) -> int | str:
    """A number from 1 on, or "auto". Raises ValueError otherwise."""
    return text if text == "auto" else positive(text)


def _prune(verb: argparse.ArgumentParser) -> None:
    _transform(verb)
    _selection(verb)
    verb.add_argument("--ratio", type=float, default=0.5, help="share of channels to remove (default: 0.5)")
    verb.add_argument("--flops", type=float, metavar="SHARE", help="instead of --ratio: the share of FLOPs that stays")
    verb.add_argument("--parameters", type=float, metavar="SHARE", help="or the share of parameters that stays")
    timed = "or the share of the latency that stays, as measured here in ONNX Runtime"
    verb.add_argument("--latency", type=float, metavar="SHARE", help=timed)
    verb.add_argument(
        "--scope",
        choices=["auto", "local", "global", "optimal"],
        default="auto",
        help="rank in groups, over the network, or by what outputs lose (default: optimal under a budget, else local)",
    )
    verb.add_argument(
        "--multiple-of",
        type=multiple,
        default=1,
        metavar="N",
        help="keep a multiple of N channels; auto: of the runtime's vectors, measured here (default: 1)",
    )
    whole = "whole residual blocks may go, too, where that costs less than channels for what is saved; needs --data"
    verb.add_argument("--blocks", action="store_true", help=whole)
    part = "prune in so many rounds, measuring again in each; needs --data (default: 1)"
    verb.add_argument("--rounds", type=positive, default=1, metavar="N", help=part)
    verb.add_argument(
        "--norms",
        choices=["strict", "semantic"],
        default="strict",
        help="semantic: channels go over which norms and means take statistics (default: strict)",
    )
    verb.add_argument(
        "--heads",
        choices=["auto", "heads", "dims"],
        default="auto",
        help="attention loses whole heads, or the same dimensions of every head (default: what leaves more to choose)",
    )
    most = "the largest share of a group of layers' channels that may go (default: 0.9)"
    verb.add_argument("--max-ratio", type=float, default=0.9, metavar="SHARE", help=most)
    verb.add_argument("--importance", default="l2", help="how channels are ranked (default: l2)")
    verb.add_argument(
        "--compensate",
        choices=["auto", "least-squares", "bias", "batch-norm", "none"],
        default="auto",
        help="what makes up for removed channels (default: least-squares with --data, else none)",
    )


def _quantize(verb: argparse.ArgumentParser) -> None:
    _transform(verb)
    _selection(verb)
    modes = ["static", "dynamic", "weights"]
    verb.add_argument("--mode", choices=modes, default="static", help="static needs --data (default: static)")
    verb.add_argument(
        "--observer",
        default="minmax",
        help="how ranges are found: minmax, moving_average, percentile, entropy, mse, auto (default: minmax)",
    )
    _jobs(verb)


def _run(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("recipe", metavar="RECIPE", help="a .toml or .json file with the passes and their options")
    _transform(verb)
    _jobs(verb)
    timed = "timed runs of each step; 0: no latency (default: the recipe's, else 60 for a goal with latency)"
    verb.add_argument("--runs", type=natural, metavar="N", help=timed)
    verb.add_argument(
        "--report", action="append", default=[], metavar="FILE", help="also write a .html or .json report"
    )
    verb.add_argument("--no-lock", action="store_true", help="write no FILE.lock.json beside the output")


def _compress(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="an ONNX file, or a folder with one")
    files = "gets model.onnx, report.html, report.json, and the configuration and tokenizer of MODEL's folder"
    verb.add_argument("-o", "--output", metavar="FOLDER", required=True, help=files)
    methods = 'passes with options: "simplify,prune(ratio=0.3),quantize" (default: auto)'
    verb.add_argument("--methods", default="auto", help=methods)
    verb.add_argument("--goal", help='conditions: "latency<=0.6x, drop(top1)<=0.5%%, size<=25MB"')
    metric = "a metric of yours; may be repeated"
    verb.add_argument("--eval", action="append", default=[], metavar="FILE.py:NAME", help=metric)
    verb.add_argument("--runs", type=natural, default=60, help="timed runs of each step; 0: no latency (default: 60)")
    verb.add_argument("--pytorch", action="store_true", help="also write model.py, model.safetensors and a parity test")
    _run_flags(verb)
    _selection(verb)
    _jobs(verb)


def _verify(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("reference", metavar="REFERENCE")
    verb.add_argument("candidate", metavar="CANDIDATE")
    verb.add_argument("--data", help=f"{DATA}; without it inputs are synthesized")
    verb.add_argument("--tolerance", type=bound, default=1e-4, help="largest max|a-b|/max|ref| (default: 1e-4)")
    verb.add_argument("--seed", type=natural, default=0, help=SEED)


def _bench(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("models", nargs="+", metavar="MODEL", help="ratios are to the first")
    verb.add_argument("--data", help=f"{DATA}; without it an input is synthesized")
    every = "compare this runtime's precisions for the one MODEL; may be repeated (static int8 needs --data)"
    verb.add_argument("--target", action="append", default=[], choices=list(TARGETS), help=every)
    verb.add_argument("--runs", type=positive, default=60, help="timed runs of each model (default: 60)")
    verb.add_argument("--seed", type=natural, default=0, help=SEED)


def _emit(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="an ONNX file")
    verb.add_argument("-o", "--output", required=True, help="a folder for PyTorch, a file for ONNX")
    verb.add_argument("--to", choices=["pytorch", "onnx"], default="pytorch")
    verb.add_argument("--opset", type=opset, metavar=OPSETS, help="the opset to write (with --to onnx; default: keep)")
    floats = "write a quantized model as one of floats, weights as the integers stand for (with --to pytorch)"
    verb.add_argument("--dequantize", action="store_true", help=floats)
    verb.add_argument("--force", action="store_true", help="replace what is there")


def _explain(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("rule", metavar="RULE", help="a rule by its name; tersor passes --rules lists them")
    verb.add_argument("model", metavar="MODEL", help="an ONNX file")
    places = "a node's name, a value's name, or a pattern of names, scopes or operators (default: the whole model)"
    verb.add_argument("--at", metavar="NODE", help=places)


def _passes(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--rules", action="store_true", help="list the rewrite rules instead")


VERBS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "inspect": ("Show a model's interface, size, cost and operators.", _inspect),
    "simplify": ("Make a graph smaller without changing what it computes.", _simplify),
    "prune": ("Remove channels, checked against the masked original.", _prune),
    "quantize": ("Quantize to int8.", _quantize),
    "run": ("Run the passes of a recipe, and write down what was run.", _run),
    "compress": ("Run several passes, measure each step, judge a goal, write a report.", _compress),
    "verify": ("Compare the outputs of two models.", _verify),
    "bench": ("Time models on this machine, interleaved in one run.", _bench),
    "emit": ("Write a model as PyTorch source or as ONNX.", _emit),
    "explain": ("Say why a rewrite rule fires at a node, or why it does not.", _explain),
    "passes": ("List the passes with their options, those of other packages too.", _passes),
}

OPSETS = "keep|best|N"
DATA = "samples: an .npz (one array per input), or a folder of .npz and .npy files"
SEED = "for synthesized inputs (default: 0)"


def _transform(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="an ONNX file")
    verb.add_argument("-o", "--output", metavar="FILE", required=True, help="the ONNX file to write")
    verb.add_argument("--opset", type=opset, metavar=OPSETS, help="the ONNX opset to write (default: keep)")
    _run_flags(verb)


def _run_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data", help=DATA)
    verb.add_argument("--seed", type=natural, help=SEED)
    verb.add_argument("--freeze-defaults", action="store_true", help="make constants of inputs that have a default")
    verb.add_argument("--no-check", action="store_true", help="do not compare the outputs after each pass")
    verb.add_argument("--strict", action="store_true", help="treat warnings as errors: nothing is written")
    verb.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, do nothing")
    verb.add_argument("--force", action="store_true", help="replace what is there")
    _instruments(verb)


def _jobs(verb: argparse.ArgumentParser) -> None:
    jobs = "threads that calibration is shared out to; what comes out is the same (default: 1)"
    verb.add_argument("--jobs", type=positive, default=1, metavar="N", help=jobs)


def _instruments(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("looking into the passes")
    group.add_argument("--stats", action="store_true", help="print what each rewrite rule did")
    for moment, what in PRINTED.items():
        flag = f"--print-{moment}"
        group.add_argument(flag, action="append", default=[], metavar="PASS", help=f"print {what} (PASS or all)")
    group.add_argument("--print-to", metavar="FOLDER", help="print into files of a folder (default: to stderr)")
    group.add_argument("--bisect", action="store_true", help="name the rewrite that breaks the outputs; write nothing")
    kept = "where failures of a pass are written, to be run again (default: below the system's temporary folder)"
    group.add_argument("--reproducers", metavar="FOLDER", help=kept)
    group.add_argument("--reproducer-weights", action="store_true", help="write the model's weights there too")


PRINTED = {
    "before": "the graph before a pass",
    "after": "the graph after a pass",
    "changed": "what a pass changed in the graph",
    "on-failure": "the graph as a pass that failed left it",
}


def _selection(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="layers to change: name, scope or operator"
    )
    verb.add_argument("--skip", action="append", default=[], metavar="PATTERN", help="layers to leave alone")
