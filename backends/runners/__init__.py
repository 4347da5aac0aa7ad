"""Running graphs: ONNX Runtime, the ONNX reference evaluator, numpy in double precision and PyTorch behind one
protocol, and inputs for them.
"""

from .base import Feeds, Input, Runner, Samples, check_feeds, inputs_of
from .double import DoubleRunner
from .evaluate import evaluate_node
from .ort import OrtRunner, session_of
from .reference import ReferenceRunner
from .stages import in_stages
from .synthesize import Filling, plan, synthesize
from .torch import TorchRunner

__all__ = [
    "DoubleRunner", "Feeds", "Filling", "Input", "OrtRunner", "ReferenceRunner", "Runner", "Samples", "TorchRunner",
    "check_feeds", "evaluate_node", "in_stages", "inputs_of", "plan", "session_of", "synthesize",
]  # fmt: skip
