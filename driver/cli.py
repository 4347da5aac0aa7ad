"""The command line: `tersor VERB ...`. Results go to stdout, progress and messages to stderr.

Exit codes: 0 ok, 1 goal missed (the best effort is saved), 2 usage, 3 unsafe or invalid input, 4 parity failure, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..ir import TersorError
from . import commands

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; a TersorError is printed as it is, without a traceback."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except TersorError as error:
        print(f"tersor: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tersor: interrupted; nothing was left half written", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # the reader went away; keep the interpreter's exit quiet
        return 0


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser(prog="tersor", description="A compiler for trained neural networks.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"tersor {commands.version()}")
    verbs = top.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        made.set_defaults(run=getattr(commands, name))
        made.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
        made.add_argument("--quiet", action="store_true", help="print no progress and no notes")
        return made

    inspect = verb("inspect", "Show a model's interface, size, cost and operators.")
    inspect.add_argument("model", metavar="MODEL", help="an ONNX file")
    inspect.add_argument("--text", action="store_true", help="print the graph in the text form")

    simplify = verb("simplify", "Make a graph smaller without changing what it computes.")
    _transform(simplify)
    simplify.add_argument("--level", choices=["deploy", "train"], default="deploy", help="train keeps parameters apart (default: deploy)")

    prune = verb("prune", "Remove channels, checked against the masked original.")
    _transform(prune)
    _selection(prune)
    prune.add_argument("--ratio", type=float, default=0.5, help="share of channels to remove (default: 0.5)")
    prune.add_argument("--scope", choices=["local", "global"], default="local", help="rank inside groups or over the network")
    prune.add_argument("--multiple-of", type=int, default=1, metavar="N", help="keep a multiple of N channels (default: 1)")
    prune.add_argument("--importance", default="l2", help="how channels are ranked (default: l2)")

    quantize = verb("quantize", "Quantize to int8.")
    _transform(quantize)
    _selection(quantize)
    quantize.add_argument("--mode", choices=["static", "dynamic"], default="static", help="static needs --data (default: static)")
    quantize.add_argument("--observer", default="minmax", help="how ranges are found: minmax, percentile, ... (default: minmax)")

    compress = verb("compress", "Run several passes, measure each step, judge a goal, write a report.")
    compress.add_argument("model", metavar="MODEL", help="an ONNX file")
    compress.add_argument("-o", "--output", metavar="FOLDER", required=True, help="gets model.onnx, report.html and report.json")
    compress.add_argument("--methods", default="auto", help='passes with options: "simplify,prune(ratio=0.3),quantize" (default: auto)')
    compress.add_argument("--goal", help='conditions: "latency<=0.6x, drop(top1)<=0.5%%, size<=25MB"')
    compress.add_argument("--eval", action="append", default=[], metavar="FILE.py:NAME", help="a metric of yours; may be repeated")
    compress.add_argument("--runs", type=int, default=60, help="timed runs of each step; 0 measures no latency (default: 60)")
    compress.add_argument("--pytorch", action="store_true", help="also write model.py, model.safetensors and a parity test")
    _run_flags(compress)
    _selection(compress)

    verify = verb("verify", "Compare the outputs of two models.")
    verify.add_argument("reference", metavar="REFERENCE")
    verify.add_argument("candidate", metavar="CANDIDATE")
    verify.add_argument("--data", help="an .npz, or a folder of .npz and .npy files; without it inputs are synthesized")
    verify.add_argument("--tolerance", type=float, default=1e-4, help="largest max|a-b|/max|ref| (default: 1e-4)")
    verify.add_argument("--seed", type=int, default=0)

    bench = verb("bench", "Time models on this machine, interleaved in one run.")
    bench.add_argument("models", nargs="+", metavar="MODEL", help="ratios are to the first")
    bench.add_argument("--data", help="an .npz, or a folder of .npz and .npy files; without it an input is synthesized")
    bench.add_argument("--runs", type=int, default=60, help="timed runs of each model (default: 60)")
    bench.add_argument("--seed", type=int, default=0)

    emit = verb("emit", "Write a model as PyTorch source or as ONNX.")
    emit.add_argument("model", metavar="MODEL", help="an ONNX file")
    emit.add_argument("-o", "--output", required=True, help="a folder for PyTorch, a file for ONNX")
    emit.add_argument("--to", choices=["pytorch", "onnx"], default="pytorch")
    emit.add_argument("--opset", type=int, help="the ONNX opset to write (with --to onnx; default: the model's own)")
    emit.add_argument("--force", action="store_true", help="replace what is there")
    return top


def _transform(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL", help="an ONNX file")
    verb.add_argument("-o", "--output", metavar="FILE", required=True, help="the ONNX file to write")
    verb.add_argument("--opset", type=int, help="the ONNX opset to write (default: the model's own)")
    _run_flags(verb)


def _run_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data", help="samples: an .npz (one array per input), or a folder of .npz and .npy files")
    verb.add_argument("--seed", type=int, default=0, help="for synthesized inputs (default: 0)")
    verb.add_argument("--no-check", action="store_true", help="do not compare the outputs after each pass")
    verb.add_argument("--strict", action="store_true", help="treat warnings as errors: nothing is written")
    verb.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, do nothing")
    verb.add_argument("--force", action="store_true", help="replace what is there")


def _selection(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--only", action="append", default=[], metavar="PATTERN", help="layers to change: name, scope or operator")
    verb.add_argument("--skip", action="append", default=[], metavar="PATTERN", help="layers to leave alone")
