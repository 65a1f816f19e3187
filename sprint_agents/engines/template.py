"""Chat templates, rendered by Jinja in a sandbox with the few additions of transformers' ``apply_chat_template``.

A template comes with a checkpoint, so it may be hostile. The sandbox keeps it from reading and changing anything. This
module bounds what it costs as well:

- A step is one turn of a loop, one call, one comparison or one filter; one more is counted for each thousand characters
  that it reads. A rendering has at most ``MOST_STEPS``.
- No value has more than ``LONGEST`` characters, counted wherever they are in it, nor has the output. So the text of a
  value is not much longer either.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from datetime import datetime
from functools import wraps
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from pydantic import JsonValue

from sprint_agents.dialects.conversation import Message, Render
from sprint_agents.errors import InvalidCheckpoint

MOST_STEPS = 20_000
LONGEST = 100_000
_MOST_BITS = 10_000
_DEEPEST = 40
_ITEM = 20
"""An item of a list counts as much as this many characters."""
_PADDING = frozenset(("center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice"))
"""Methods and filters whose result may be as long as a number that they are given."""


def compile_template(source: str, variables: Mapping[str, JsonValue]) -> Render:
    """Return the function that renders a chat template with these variables.

    Raises:
        InvalidCheckpoint: it is not valid Jinja. The function raises it if the template costs too much.
    """
    if len(source) > LONGEST * 10:
        raise InvalidCheckpoint(f"the chat template has {len(source)} characters, which is too long for a template")
    environment = _BoundedEnvironment()
    try:
        template = environment.from_string(source)
    except (jinja2.TemplateError, RecursionError, SyntaxError, MemoryError, OverflowError, ValueError) as error:
        raise InvalidCheckpoint(f"the chat template is not valid Jinja: {error}") from error

    def render(messages: list[Message], *, add_generation_prompt: bool) -> str:
        environment.steps = environment.written = 0
        environment.turn = 1 + len(source) // 1000  # a turn may write as much as the template
        try:
            return template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **variables,
            )
        except (_TooExpensive, RecursionError, MemoryError) as error:
            reason = error if isinstance(error, _TooExpensive) else "it calls itself without an end"
            raise InvalidCheckpoint(
                f"the chat template costs too much to render: {reason}. No template of a model needs that much: "
                "replace it by chat=ChatTemplate(template=…)"
            ) from error

    return render


class _TooExpensive(Exception):
    """A rendering goes beyond a bound."""


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Counts the ``steps`` of a rendering, and the characters ``written`` to its output."""

    intercepted_binops = frozenset(["+", "*", "**", "%", "//", "/", "-"])

    def __init__(self) -> None:
        # As transformers.utils.chat_template_utils compiles templates; blocks marked as generated are rendered too.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, "jinja2.ext.loopcontrols"],
            finalize=self._write,
            optimized=False,  # constant expressions would be computed when the template is compiled
        )
        self.steps = self.written = 0
        self.turn = 1
        self.filters["tojson"] = _to_json
        self.filters = {name: self._bounded(name, function) for name, function in self.filters.items()}
        self.filters |= {_LOOP: self._count, _JOIN: self._join, _READ: self._read}
        self.tests = {name: self._bounded(name, function) for name, function in self.tests.items()}
        known = cast("dict[str, Any]", self.globals)
        known["raise_exception"], known["strftime_now"] = _refuse, _now
        del known["lipsum"]
        for layout in ("wordwrap", "urlize", "striptags", "pprint", "xmlattr"):
            del self.filters[layout]  # slow on long texts, and no chat template lays out text

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Metered().visit(super()._parse(source, name, filename))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja2's own way
        """Call an object from a template."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(__obj, LoopContext) and args:  # the next level of a recursive loop
            args = (__self._count(args[0]), *args[1:])
        elif isinstance(owner, str):
            args = __self._check_growth(name, owner, args, kwargs)
        __self.charge(owner, *args, steps=__self.turn if isinstance(__obj, Macro) else 1)
        return __self._within(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute an expression of two operands."""
        self.charge(left, right)
        sizes = [_size(each) for each in (left, right)]
        if operator == "+":
            self._check_length(sum(sizes))
        elif operator == "*":
            for times, each in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(each, Sized):
                    self._check_length(times * _size(each))
            self._check_bits(_bits(left) + _bits(right))
        elif operator == "**":
            self._check_bits(_bits(left) * (abs(right) if isinstance(right, int) else 1))
        elif operator == "%" and isinstance(left, str):
            self._check_format(left, cast("tuple[Any, ...]", right) if isinstance(right, tuple) else (right,))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return ``str.format`` in its safe form, if ``value`` is that of a text."""
        safe = super().wrap_str_format(value)
        if safe is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            self._check_format(value.__self__, (*args, *kwargs.values()))
            return safe(*args, **kwargs)

        return bounded

    def charge(self, *values: object, steps: int = 1) -> None:
        """Count ``steps`` that read ``values``.

        Raises:
            _TooExpensive: these are too many, or a value is too long.
        """
        sizes = [_size(value) for value in values]
        self._check_length(max(sizes, default=0))
        self.steps += steps + sum(sizes) // 1000
        if self.steps > MOST_STEPS:
            raise _TooExpensive(f"it takes more than {MOST_STEPS} steps")

    def _count(self, items: Iterable[Any]) -> Iterator[Any]:
        """Count the turns of a loop."""
        for item in items:
            self.charge(steps=self.turn)
            yield item

    def _read(self, value: Any) -> Any:
        self.charge(value)
        return value

    def _join(self, values: Iterable[Any]) -> str:
        texts = [str(self._read(value)) for value in values]
        self._check_length(sum(map(len, texts)))
        return "".join(texts)

    def _write(self, value: Any) -> Any:
        text = value if isinstance(value, str) else str(self._within(value))
        self.written += len(text)
        self._check_length(self.written)
        return text

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that counts as a step, and whose result is not too long."""
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            before, value, rest = args[:first], args[first], args[first + 1 :]
            self.charge(value, *rest)
            if name == "join":
                value = [*value]
                self._check_length(sum(map(_size, value)) + len(value) * max(map(_size, rest), default=0))
            elif isinstance(value, str):
                rest = self._check_growth(name, value, rest, kwargs)
            elif name in _PADDING:
                self._check_length(max(_numbers(rest, kwargs), default=0))
            return self._within(function(*before, value, *rest, **kwargs))

        return bounded

    def _check_growth(self, name: str, text: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Check how long the result of a method or filter of ``text`` may be, and return its arguments."""
        if name == "join":
            args = ([*args[0]], *args[1:]) if args else args
            self._check_length(sum(_size(each) + len(text) for values in args[:1] for each in values))
        elif name == "replace" and len(args) > 1 and isinstance(args[0], str):
            self._check_length(len(text) + text.count(args[0]) * _size(args[1]))
        elif name == "format":
            self._check_format(text, (*args, *kwargs.values()))
        elif name in _PADDING:
            places = 1 + text.count("\n") + text.count("\t")
            self._check_length(len(text) + places * max(_numbers(args, kwargs), default=0))
        return args

    def _check_format(self, text: str, values: Iterable[Any]) -> None:
        """Check the widths in a format, and the numbers that may be widths."""
        wide = max((int(width) for width in _DIGITS.findall(text)), default=0)
        self._check_length(max([wide, *_numbers(values, {})]))
        self._check_length(len(text) + sum(text.count("{") * _size(each) + _size(each) for each in values))

    def _within(self, value: Any) -> Any:
        self._check_length(_size(value))
        return value

    def _check_length(self, length: int) -> None:
        if length > LONGEST:
            raise _TooExpensive(f"it makes a text or a list of more than {LONGEST} characters")

    def _check_bits(self, bits: int) -> None:
        if bits > _MOST_BITS:
            raise _TooExpensive(f"it computes a number of more than {_MOST_BITS} bits")


_LOOP, _JOIN, _READ = "_counted", "_joined", "_read"
_DIGITS = re.compile(r"\d{3,}")


class _Metered(NodeTransformer):
    """Makes the loops of a template count their turns, and what reads or makes whole values count these."""

    def generic_visit(self, node: nodes.Node, *args: Any, depth: int = 0, **kwargs: Any) -> nodes.Node:
        """Change a node after those in it; ``depth`` counts the blocks around it."""
        depth += isinstance(node, nodes.Stmt)
        if depth > _DEEPEST:
            raise jinja2.TemplateSyntaxError(f"blocks are nested more than {_DEEPEST} deep", node.lineno)
        super().generic_visit(node, *args, depth=depth, **kwargs)
        match node:
            case nodes.For():
                node.iter = _filtered(_LOOP, cast("nodes.Expr", node.iter))
            case nodes.Compare():
                node.expr = _filtered(_READ, node.expr)
                for operand in node.ops:
                    operand.expr = _filtered(_READ, operand.expr)
            case nodes.Concat():
                return _filtered(_JOIN, nodes.List(node.nodes, lineno=node.lineno))
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _filtered(_READ, cast("nodes.Expr", node))
            case _:
                pass
        return node


def _filtered(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _GenerationTag(Extension):
    """``{% generation %}``, a block whose content counts as the model's."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own way

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Return what is in the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _size(value: object) -> int:
    """Count the characters in a value, each item as some; beyond ``LONGEST`` the count may be too small."""
    if isinstance(value, str):
        return len(value)
    size, remaining = 0, [value]
    while remaining and size <= LONGEST:
        each: Any = remaining.pop()
        if isinstance(each, Namespace):
            each = object.__getattribute__(each, "_Namespace__attrs")
        if isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, range):
            size += _ITEM * len(each)
        elif isinstance(each, list | tuple | set | dict):
            items = cast("Collection[Any]", each)
            size += _ITEM * len(items)
            remaining += items
            if isinstance(each, dict):
                remaining += cast("dict[Any, Any]", each).values()
    return size


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _numbers(values: Iterable[Any], named: Mapping[str, Any]) -> Iterator[int]:
    return (abs(each) for each in (*values, *named.values()) if isinstance(each, int))


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    indent = None if indent is None else min(indent, 32)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
