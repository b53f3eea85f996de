"""Run auto-optimizer on an ONNX file, in an interpreter that has it and nothing of vidom (Python 3.8 to 3.11).

`python bridge.py MODEL OUTPUT REPORT RULE...`; without arguments it prints the names of the rewrite rules.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["NO_AUTO_OPTIMIZER", "optimize", "rule_names"]

# The exit code for an interpreter without a working auto-optimizer; Python's own failures exit with 1.
NO_AUTO_OPTIMIZER = 3
_PACKAGES = ("ait-surgeon", "onnx", "numpy")


def rule_names() -> list[str]:
    """Return the names of the registered rewrite rules ("knowledges") in auto-optimizer's order."""
    from auto_optimizer import KnowledgeFactory  # type: ignore[import-not-found]

    return list(KnowledgeFactory.get_knowledge_pool())


def optimize(*, model: str, output: str, report: str, rules: Sequence[str]) -> None:
    """Apply the rules one after the other, and write the graph to `output` if one of them changed it.

    `report` is a JSON file with the rules that changed something and the versions of the packages. A rule that raises
    ends the run; auto-optimizer's own command continues without it and only prints a warning.
    """
    from auto_optimizer import OnnxGraph
    from auto_optimizer.graph_optimizer.optimizer import GraphOptimizer  # type: ignore[import-not-found]

    graph = OnnxGraph.parse(model)
    applied = []
    for name in rules:
        print("applying " + name, flush=True)
        rule = GraphOptimizer([name]).knowledges[name]
        rule.reset()
        # A rule that reports no change may have started to change the graph.
        candidate = copy.deepcopy(graph)
        if GraphOptimizer.optimize(candidate, rule):
            graph = candidate
            applied.append(name)
    if applied:
        graph.save(output)
    facts = {"applied": applied, "versions": {package: version(package) for package in _PACKAGES}}
    Path(report).write_text(json.dumps(facts), encoding="utf-8")


def _main(words: list[str]) -> int:
    try:
        known = rule_names()
    except ImportError as error:
        print("auto-optimizer cannot be imported here: " + str(error), file=sys.stderr)
        return NO_AUTO_OPTIMIZER
    if not words:
        print("\n".join(known))
        return 0
    model, output, report, *rules = words
    optimize(model=model, output=output, report=report, rules=rules)
    return 0


if __name__ == "__main__":
    # The folder of this file comes first on the path; auto-optimizer must not import one of our modules from it.
    del sys.path[0]
    sys.exit(_main(sys.argv[1:]))
