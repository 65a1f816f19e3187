"""Show the packages' docstrings as they are meant: an extension of griffe, which reads them for the reference.

Without it doctests would be taken for quotations, fields would stand apart from what is said of them, and every class
would list what its constructor keeps for itself. `zensical.toml` names this file.
"""

import re
from typing import Any

import griffe

SESSION = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
LITERAL = re.compile(r"^::$|(?<=[^:]):(?=:$)", re.MULTILINE)  # what stands before an indented block
ATTRIBUTES = re.compile(r"^Attributes:\n((?: {4}.*(?:\n|$))+)", re.MULTILINE)
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Put doctests into fences, and each field's description to the field."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of whatever has one, before it is parsed."""
        if obj.docstring:
            text = SESSION.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
            obj.docstring.value = LITERAL.sub("", text)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Move an ``Attributes:`` section to the attributes, and drop what only the constructor assigns."""
        constructor = cls.members.get("__init__")
        for name, member in list(cls.members.items()):
            assigned = constructor and (member.lineno or 0) >= (constructor.lineno or 0)
            if name in {"model_config", "__slots__"} or (member.is_attribute and assigned and not member.has_docstring):
                cls.del_member(name)
        section = ATTRIBUTES.search(cls.docstring.value) if cls.docstring else None
        if cls.docstring and section:
            for name, text in ATTRIBUTE.findall(section[1]):
                if name in cls.members:
                    cls.members[name].docstring = griffe.Docstring(" ".join(text.split()), parent=cls.members[name])
            cls.docstring.value = ATTRIBUTES.sub("", cls.docstring.value)
