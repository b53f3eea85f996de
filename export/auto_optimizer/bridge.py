"""Runs auto-optimizer on one ONNX file, in an interpreter that has it and nothing of vidom (Python 3.8 to 3.11).

`python surgeon_bridge.py MODEL OUTPUT REPORT KNOWLEDGE...`; without any of these it prints the knowledges there are.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["LACKS_AUTO_OPTIMIZER", "knowledges", "operate"]

# The exit code for an interpreter without a working auto-optimizer; Python's own failures are 1.
LACKS_AUTO_OPTIMIZER = 3
_PACKAGES = ("ait-surgeon", "onnx", "numpy")


def knowledges() -> list[str]:
    """Return the names of the registered knowledges in auto-optimizer's order."""
    from auto_optimizer import KnowledgeFactory  # type: ignore[import-not-found]

    return list(KnowledgeFactory.get_knowledge_pool())


def operate(*, model: str, output: str, report: str, names: Sequence[str]) -> None:
    """`report` tells in JSON which knowledges changed something, and `output` holds the graph if any did.

    They are applied one after the other. A knowledge that raises ends all; auto-optimizer's own command goes on
    without it and only prints a warning.
    """
    from auto_optimizer import OnnxGraph
    from auto_optimizer.graph_optimizer.optimizer import GraphOptimizer  # type: ignore[import-not-found]

    graph = OnnxGraph.parse(model)
    applied = []
    for name in names:
        print("applying " + name, flush=True)
        knowledge = GraphOptimizer([name]).knowledges[name]
        knowledge.reset()
        # A knowledge that ends with "nothing done" may have begun to change the graph.
        candidate = copy.deepcopy(graph)
        if GraphOptimizer.optimize(candidate, knowledge):
            graph = candidate
            applied.append(name)
    if applied:
        graph.save(output)
    told = {"applied": applied, "versions": {package: version(package) for package in _PACKAGES}}
    Path(report).write_text(json.dumps(told), encoding="utf-8")


def _main(words: list[str]) -> int:
    try:
        known = knowledges()
    except ImportError as error:
        print("auto-optimizer cannot be imported here: " + str(error), file=sys.stderr)
        return LACKS_AUTO_OPTIMIZER
    if not words:
        print("\n".join(known))
        return 0
    model, output, report, *names = words
    operate(model=model, output=output, report=report, names=names)
    return 0


if __name__ == "__main__":
    # The folder of this file comes first; no module of ours may be taken for one that auto-optimizer imports.
    del sys.path[0]
    sys.exit(_main(sys.argv[1:]))
