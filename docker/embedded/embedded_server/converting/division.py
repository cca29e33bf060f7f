"""Divides a flat graph into front, body and tail.

Every operation has a level: even for TensorFlow, odd for OpenVINO, and never lower than what it is given. So
the operations of one odd level have nothing of TensorFlow between them, and can be the body. The level with
most multiplications is taken. What only leads there and needs no TensorFlow on the way joins it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from embedded_server.converting import operations
from embedded_server.converting.facts import Facts
from embedded_server.converting.settling import settled
from embedded_server.graph import counting
from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.flat import Flat
from embedded_server.graph.frames import control_flow, ordered
from embedded_server.graph.ways import node_of, reached

_CALLS = re.compile(r"^((call_\d+|(Stateful)?PartitionedCall(_\d+)?)/)+")
"""What calls of functions put before the name that a person gave to an operation."""
LEAST_SHARE = 0.1
"""Of the multiplications; a body with fewer is not worth two calls of TensorFlow around it."""
_NOT_CARRIED = (tf.variant, tf.resource)


@dataclass(frozen=True)
class Division:
    """Which part of a signature is whose. Tensors and operations are named as in the flat graph."""

    flat: Flat
    body: frozenset[str]
    """Operations that OpenVINO executes."""
    given: Sequence[tf.Tensor]
    """What the body is given: inputs of the signature, and what the front computes."""
    taken: Sequence[tf.Tensor]
    """What the tail, or the answer, takes of the body."""
    front: Sequence[str]
    """Tensors that TensorFlow computes first."""
    front_checks: Sequence[str]
    tail_given: Sequence[str]
    """Tensors that the tail is given."""
    tail_checks: Sequence[str]
    has_tail: bool
    depends_on_sizes: bool
    """Whether something in the body depends on sizes that a request decides."""
    multiplications: int
    share: float


def divide(flat: Flat, without: frozenset[str] = frozenset()) -> Division:
    """Divide a signature.

    without: operations that stay with TensorFlow although they are proven.

    Raises CannotConvert if OpenVINO can execute nothing of it that is worth it.
    """
    flat, graph = settled(flat)
    return _Divider(flat, graph, without).divide()


class _Divider:
    def __init__(self, flat: Flat, graph: tf.Graph, without: frozenset[str]) -> None:
        self.flat = flat
        self.without = without
        self.graph = graph
        self.operations = list(ordered(self.graph))
        self.facts = Facts(self.operations)
        self.within = control_flow(self.operations)
        self.counts = self._counted()
        self.reasons: dict[str, str | None] = {}
        for operation in self.operations:
            reason = self.reasons[operation.name] = self._why_not(operation)
            self.facts.note(operation, stays=reason is not None)

    def divide(self) -> Division:
        total = sum(self.counts.values())
        if not total:
            raise CannotConvert("it has no convolution or matrix product")
        body = self._heaviest()
        while closed := self._given_shapes(body):
            # Only TensorFlow would make sense of them: a body with such an input depends on more than data.
            self.reasons.update(dict.fromkeys(closed, "TensorFlow computes the shape that it needs"))
            body = self._heaviest()
        share = self._count(body) / total
        if share < LEAST_SHARE:
            raise CannotConvert(self._reason(body, share))
        return self._division(body, total, share)

    def _heaviest(self) -> frozenset[str]:
        levels = self._levels()
        bodies = (self._body(levels, level) for level in sorted(set(levels.values())) if level % 2)
        return max(bodies, key=self._count, default=frozenset())

    def _given_shapes(self, body: frozenset[str]) -> set[str]:
        """The operations of the body that are given nothing of a tensor but sizes, or sizes themselves."""
        whole = (tf.int32, tf.int64)
        shapes = set()
        for operation in self.operations:
            if operation.name not in body:
                continue
            for tensor in operation.inputs:
                if tensor.op.name in body or tensor.op.type == "Const":
                    continue
                users = {user.type for user in tensor.consumers() if user.name in body}
                is_data = operation.type == "Cast" and operation.outputs[0].dtype.is_floating
                if (
                    (tensor.dtype.base_dtype in whole and not is_data)
                    or users == {"Shape"}
                    or _settles_sizes(operation, tensor)
                ):
                    shapes.add(operation.name)
        return shapes

    def _count(self, names: Iterable[str]) -> int:
        return sum(self.counts.get(name, 0) for name in names)

    def _counted(self) -> dict[str, int]:
        functions = {f.signature.name: f for f in self.flat.graph_def.library.function}
        counts = {}
        for operation in self.operations:
            count = counting.multiplications(operation) + counting.of_functions(operation, functions)
            if count:
                turns = counting.TURNS if operation.name in self.within else 1
                counts[operation.name] = count * turns
        return counts

    def _why_not(self, operation: tf.Operation) -> str | None:
        if operation.type in self.without:
            return "OpenVINO cannot compile it together with the others"
        around = self.within.get(operation.name)
        return around if around is not None else operations.why_not(operation, self.facts)

    def _reason(self, body: Iterable[str], share: float) -> str:
        left = {name: count for name, count in self.counts.items() if name not in set(body)}
        name = max(left, key=lambda n: left[n])
        why = self.reasons[name] or "operations that are not proven lie between it and the others"
        kind = self.graph.get_operation_by_name(name).type
        heaviest = f"{_CALLS.sub('', name)} ({kind}) stays with TensorFlow: {why}"
        if share:
            return f"OpenVINO could execute {share:.1%} of its multiplications; {heaviest}"
        return heaviest

    def _is_open(self, operation: tf.Operation) -> bool:
        """Whether it may go into the body."""
        return self.reasons[operation.name] is None

    def _levels(self) -> dict[str, int]:
        """The lowest level of each operation but constants."""
        levels: dict[str, int] = {}
        again = True
        while again:
            again = False
            for operation in self.operations:
                if operation.type == "Const" and not operation.control_inputs:
                    continue
                level = self._level(operation, levels)
                if level != levels.get(operation.name):
                    levels[operation.name] = level
                    again = True
        return levels

    def _level(self, operation: tf.Operation, levels: dict[str, int]) -> int:
        is_open = self._is_open(operation)
        before = [tensor.op for tensor in operation.inputs]
        if not is_open:
            # What OpenVINO executes raises no errors, so nothing needs to wait for it but for its values.
            before += [other for other in operation.control_inputs if not self._is_open(other)]
        lowest = max((levels.get(other.name, 0) for other in before), default=0)
        return lowest if lowest % 2 == is_open else lowest + 1

    def _body(self, levels: dict[str, int], level: int) -> frozenset[str]:
        body = {name for name, own in levels.items() if own == level}
        outside: set[str] = set()  # what leads to the body, and not as a part of it
        for operation in reversed(self.operations):
            if operation.name in body or operation.name not in levels:
                continue
            users = {user.name for tensor in operation.outputs for user in tensor.consumers()}
            if self._is_open(operation) and levels[operation.name] < level and not users & outside:
                if users & body:
                    body.add(operation.name)
            elif users & (body | outside):
                outside.add(operation.name)
        return self._around_heavy(body)

    def _around_heavy(self, body: set[str]) -> frozenset[str]:
        """What leads to a convolution or matrix product, or comes after one: the rest gains nothing."""
        heavy = [name for name in body if name in self.counts]
        operation = self.graph.get_operation_by_name

        def before(name: str) -> list[str]:
            return [t.op.name for t in operation(name).inputs if t.op.name in body]

        def after(name: str) -> list[str]:
            return [u.name for t in operation(name).outputs for u in t.consumers() if u.name in body]

        behind = reached(heavy, after)
        # What is behind needs its own shapes and constants too.
        return frozenset(reached(behind, before))

    def _division(self, body: frozenset[str], total: int, share: float) -> Division:
        operation = self.graph.get_operation_by_name
        inside = [o for o in self.operations if o.name in body]
        given = _unique(t for o in inside for t in o.inputs if t.op.name not in body and t.op.type != "Const")
        after = self._after(body)
        outputs = set(self.flat.outputs.values())
        taken = _unique(
            t
            for o in inside
            for t in o.outputs
            if t.name in outputs or any(user.name in after for user in t.consumers())
        )
        checks = _unique_names(c for o in inside for c in o.control_inputs if c.name not in body)
        free = [t for t in sorted(outputs) if node_of(t) not in body | after and not self._is_placeholder(t)]
        crossing = [t.name for t in given if t.op.type != "Placeholder"]
        late = [name for name in checks if name in after]
        has_tail = bool(late) or any(node_of(t) in after for t in outputs)
        front = [*crossing, *(free if crossing or not has_tail else ())]
        tail_given = [t.name for t in taken if any(user.name in after for user in t.consumers())]
        if has_tail and crossing:
            handed = _unique(
                t
                for name in sorted(after)
                for t in operation(name).inputs
                if t.op.name not in body | after and t.op.type not in ("Const", "Placeholder")
                and t.op.name not in self.within
                and not t.dtype._is_ref_dtype and t.dtype not in _NOT_CARRIED
            )  # fmt: skip
            front = list(dict.fromkeys([*front, *(t.name for t in handed)]))
            tail_given += [t.name for t in handed]
        return Division(
            flat=self.flat, body=body, given=given, taken=taken,
            front=front, front_checks=[name for name in checks if name not in after],
            tail_given=tail_given, tail_checks=late, has_tail=has_tail,
            depends_on_sizes=self._puts_together(body, given)
            or any(operations.depends_on_sizes(o, self.facts) for o in inside),
            multiplications=total, share=share,
        )  # fmt: skip

    def _puts_together(self, body: frozenset[str], given: Sequence[tf.Tensor]) -> bool:
        """Whether tensors that the body is given, of open sizes, meet: OpenVINO does not always see that
        they differ.
        """
        open_sized = {t.name for t in given if t.shape.rank and None in t.shape.as_list()}
        made_from: dict[str, set[str]] = {name: {name} for name in open_sized}
        for operation in self.operations:
            if operation.name not in body:
                continue
            whole: set[str] = set().union(*(made_from.get(t.name, set()) for t in operation.inputs))
            if len(whole) > 1:
                return True
            made_from.update({tensor.name: whole for tensor in operation.outputs})
        return False

    def _is_placeholder(self, tensor: str) -> bool:
        return tensor in self.flat.inputs.values()

    def _after(self, body: frozenset[str]) -> set[str]:
        """TensorFlow's operations that need the body."""
        operation = self.graph.get_operation_by_name
        waiting: dict[str, list[str]] = {}
        for o in self.operations:
            for other in o.control_inputs:
                if other.name not in body:
                    waiting.setdefault(other.name, []).append(o.name)

        def users(name: str) -> list[str]:
            return [
                *(u.name for t in operation(name).outputs for u in t.consumers() if u.name not in body),
                *(n for n in waiting.get(name, ()) if n not in body),
            ]

        return reached(body, users) - body


def _settles_sizes(operation: tf.Operation, given: tf.Tensor) -> bool:
    """Whether this reshapes what the front computes, with open sizes, to sizes that are known: the front
    can do so.
    """
    if operation.type != "Reshape" or given.op.type == "Placeholder" or given.shape.rank is None:
        return False
    made = operation.outputs[0].shape.as_list()
    return None in given.shape.as_list()[1:] and None not in made[1:]


def _unique(tensors: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    return list({tensor.name: tensor for tensor in tensors}.values())


def _unique_names(operations: Iterable[tf.Operation]) -> list[str]:
    return list(dict.fromkeys(operation.name for operation in operations))
