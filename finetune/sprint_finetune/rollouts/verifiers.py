"""Rollouts as verifiers saves them, which prime-rl trains on: ``traces.jsonl``, one episode a line (verifiers 0.4).

A run is an episode with one trace. A trace is a graph of messages; each path from a root to a leaf is a branch, and so
a training sample. Context is a message of the user, and each completion is one of the assistant. Both hold raw text,
tags and marks of turns included, because token ids are the truth and verifiers reads them from the nodes.

Branches share no node. In verifiers a node that several branches share is sampled in each of them, so that a plan would
be learned once for each executor that has read it. Here it is sampled on the planner's path alone. Semantic links say
which plan an executor comes from (``subagent_call``), and which plan reads its result (``subagent_return``).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sprint_agents import __version__
from sprint_agents.rollouts import Rollout, RolloutBranch, RolloutPiece

FILE_NAME = "traces.jsonl"
"""The file that verifiers and prime-rl look for in a folder of results."""

_METRICS = (
    "sequential_tokens",
    "sequential_tokens_strict",
    "total_tokens",
    "stages",
    "subtasks",
    "width",
    "failures",
    "sequential_seconds",
    "seconds",
)


def write_episodes(rollouts: Iterable[Rollout], folder: Path) -> int:
    """Write ``traces.jsonl`` into ``folder``, which is created if there is none, and return how many lines it has."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (folder / FILE_NAME).open("w", encoding="utf-8") as file:
        for rollout in rollouts:
            file.write(dump_episode(rollout) + "\n")
            count += 1
    return count


def dump_episode(rollout: Rollout) -> str:
    """Return a rollout as the JSON of a ``verifiers.v1.Episode``.

    A checked answer gives the reward ``verified``, 1 or 0. A run that failed is not ``ok``, and prime-rl learns nothing
    from it.
    """
    ok = rollout.error is None
    errors = [] if rollout.error is None else [rollout.error.model_dump()]
    task = {"type": "Task", "data": {"prompt": rollout.task}}
    trace = {
        "version": 1,
        "id": rollout.run_id,
        "task": task,
        "agent": {"name": "sprint", "config": {"model": rollout.engine}},
        **_graph(rollout),
        "rewards": {} if rollout.verified is None else {"verified": {"score": float(rollout.verified)}},
        "metrics": {name: float(getattr(rollout.usage, name)) for name in _METRICS},
        "info": {"sprint_agents": __version__, "policy": rollout.policy, "missing": rollout.missing},
        "root_reply": rollout.answer,
        "is_completed": True,
        "ok": ok,
        "stop_condition": "agent_completed" if ok else "error",
        "errors": errors,
        "timing": _timing(rollout),
    }
    episode = {
        "id": rollout.run_id,
        "env": {"id": "sprint-agents"},
        "task": task,
        "ok": ok,
        "errors": errors,
        "traces": [trace],
    }
    return json.dumps(episode, ensure_ascii=False)


def _timing(rollout: Rollout) -> Mapping[str, Any]:
    started = rollout.origin or 0.0
    return {"start": started, "agent": {"start": started, "end": started + rollout.usage.seconds}}


def _graph(rollout: Rollout) -> Mapping[str, Any]:
    """Return the nodes of all branches, and the calls that made them."""
    nodes: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    plans: dict[int, int] = {}  # the node of each stage's plan
    executions: list[tuple[int, int, int]] = []  # a stage, and the first and last completion of one of its executors
    for branch in rollout.branches:
        sampled: list[int] = []
        for parent, piece in _chained(branch, first=len(nodes)):
            if piece.sampled:
                sampled.append(len(nodes))
                calls.append(_call(piece, node=len(nodes), rollout=rollout))
                if branch.role == "planner":
                    plans.setdefault(piece.stage, len(nodes))
            nodes.append(_node(piece, parent=parent, timestamp=rollout.origin or 0.0))
        if branch.role == "executor" and sampled:
            executions.append((branch.stage, sampled[0], sampled[-1]))
    for stage, first, last in executions:
        if stage in plans:
            nodes[first]["semantic_parents"].append({"node": plans[stage], "type": "subagent_call"})
        if stage + 1 in plans:
            nodes[plans[stage + 1]]["semantic_parents"].append({"node": last, "type": "subagent_return"})
    return {"nodes": nodes, "calls": calls}


def _chained(branch: RolloutBranch, *, first: int) -> Iterator[tuple[int | None, RolloutPiece]]:
    """Return each piece of a branch with the index of its parent."""
    for offset, piece in enumerate(branch.pieces):
        yield (first + offset - 1 if offset else None), piece


def _node(piece: RolloutPiece, *, parent: int | None, timestamp: float) -> dict[str, Any]:
    return {
        "parent": parent,
        "message": {"role": "assistant" if piece.sampled else "user", "content": piece.text},
        "sampled": piece.sampled,
        "timestamp": timestamp,
        "token_ids": list(piece.ids),
        "mask": [piece.sampled] * len(piece.ids),
        "logprobs": list(piece.logprobs),
        "semantic_parents": [],
    }


def _call(piece: RolloutPiece, *, node: int, rollout: Rollout) -> dict[str, Any]:
    return {
        "node": node,
        "model": rollout.engine,
        "sampling": {"temperature": rollout.temperature},
        "finish_reason": piece.finish,
        "usage": {
            "prompt_tokens": piece.prompt_tokens - piece.cached_tokens,
            "cached_input_tokens": piece.cached_tokens,
            "completion_tokens": len(piece.ids),
        },
    }
