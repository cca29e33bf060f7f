"""Ways through a graph that has loops and conditions as plain nodes (Enter, Merge, Switch, NextIteration,
Exit)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

NEXT = ("NextIteration", "RefNextIteration")
_ENTERS, _EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
_SWITCHES, _MERGES = ("Switch", "RefSwitch", "_SwitchN"), ("Merge", "RefMerge")


def ordered(graph: tf.Graph) -> Iterable[tf.Operation]:
    """Operations after what they are given and wait for; the turns of a loop aside."""
    done: set[str] = set()
    begun: set[str] = set()
    for operation in graph.get_operations():
        waiting = [operation]
        while waiting:
            last = waiting[-1]
            if last.name in done:
                waiting.pop()
                continue
            before = []
            if last.name not in begun:
                begun.add(last.name)
                given = [tensor.op for tensor in last.inputs if tensor.op.type not in NEXT]
                before = [o for o in (*given, *last.control_inputs) if o.name not in begun]
            if before:
                waiting.extend(before)
                continue
            done.add(last.name)
            waiting.pop()
            yield last


def control_flow(operations: Sequence[tf.Operation]) -> dict[str, str]:
    """Operations within loops and conditions -> which it is, as a clause."""
    around: dict[str, tuple[str, ...]] = {}
    for operation in operations:
        before = [t.op for t in operation.inputs if t.op.type not in NEXT] + list(operation.control_inputs)
        own = max((around.get(other.name, ()) for other in before), key=len, default=())
        if operation.type in _ENTERS:
            frame = operation.get_attr("frame_name").decode()
            own = (*own, f"it is within the loop {frame.rstrip('_')}")
        elif operation.type in _EXITS:
            own = own[:-1]
        elif operation.type in _SWITCHES and not any(t.op.type == "LoopCond" for t in operation.inputs):
            own = (*own, f"it is within the condition {operation.name}")
        elif operation.type in _MERGES and not any(t.op.type in (*NEXT, *_ENTERS) for t in operation.inputs):
            own = own[:-1]
        around[operation.name] = own
    return {name: frames[-1] for name, frames in around.items() if frames}
