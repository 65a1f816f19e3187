"""Adapt the packages' docstrings for the reference: an extension of griffe, which reads the sources.

It puts doctests into fences, moves the text of an ``Attributes:`` section to the attributes, and hides fields that only
a constructor assigns. `zensical.toml` names this file.
"""

import re
from typing import Any

import griffe

SESSION = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
LITERAL = re.compile(r"^::$|(?<=[^:]):(?=:$)", re.MULTILINE)  # the marker before an indented block
ATTRIBUTES = re.compile(r"^Attributes:\n((?: {4}.*(?:\n|$))+)", re.MULTILINE)
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Show each docstring at the name it describes."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put doctests into fences before the docstring is parsed."""
        if obj.docstring:
            text = SESSION.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
            obj.docstring.value = LITERAL.sub("", text)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Move an ``Attributes:`` section to the attributes, and drop fields that only the constructor assigns."""
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

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Let a package's ``from .dag import dag`` mean the function: griffe would list the module of that name."""
        for module in [*pkg.modules.values()]:
            self.on_package(pkg=module)
        for name in pkg.exports or ():
            path = pkg.imports.get(str(name), "")
            shadowed = pkg.members.get(str(name))
            if shadowed and shadowed.is_module and path.startswith(f"{shadowed.path}."):
                pkg.set_member(str(name), griffe.Alias(str(name), shadowed[path.rpartition(".")[2]], parent=pkg))
