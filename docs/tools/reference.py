"""Find what the reference shows, in the sources, as the site's builder reads them.

The pages of `docs/reference` name packages and modules. Their signatures mention types of other modules, such as the
`Failure` of an `Execution`. `gather.py` makes one page of those, so that a reader finds each type of a signature.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[2]
PACKAGES = {"sprint_agents": ROOT, "sprint_integrations": ROOT / "integrations", "sprint_finetune": ROOT / "finetune"}
SHOWN = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
ALIAS = re.compile(r"[A-Z]\w*[a-z]")  # a constant's name has capitals alone
VARIABLE = re.compile(r"(?:typing\.)?(?:TypeVar|ParamSpec|TypeVarTuple)\(")

Named = griffe.Object | griffe.Alias


@cache
def sources() -> griffe.ModulesCollection:
    """Read the three packages with the site's extension; nothing is imported."""
    extensions = griffe.load_extensions(ROOT / "docs" / "tools" / "docstrings.py")
    loader = griffe.GriffeLoader(search_paths=[*PACKAGES.values()], extensions=extensions, allow_inspection=False)
    for package in PACKAGES:
        loader.load(package)
    loader.resolve_aliases(implicit=False, external=False)
    return loader.modules_collection


def public(module: Named) -> dict[str, Named]:
    """Return the members that the builder shows: those in ``__all__``, or without it the public ones defined there."""
    if module.exports is not None:
        return {str(name): module.members[str(name)] for name in module.exports}
    return {name: member for name, member in module.members.items() if member.is_public and not member.is_module}


@cache
def entries() -> dict[str, Named]:
    """Return everything that a page of `docs/reference` shows, by its public path."""
    pages = sorted((ROOT / "docs" / "reference").rglob("*.md"))
    shown = [path for page in pages for path in SHOWN.findall(page.read_text("utf-8"))]
    return {f"{path}.{name}": member for path in shown for name, member in public(sources()[path]).items()}


@cache
def types() -> dict[str, Named]:
    """Return the types that signatures of entries mention and that have no entry themselves, by path."""
    known = {member.canonical_path for member in entries().values()}
    found: dict[str, Named] = {}
    waiting = [*entries().values()]
    while waiting:
        for path in _mentioned(waiting.pop()) - known:
            known.add(path)
            if type_ := _type_at(path):
                found[path] = type_
                waiting.append(type_)
    return dict(sorted(found.items(), key=lambda item: item[0].rpartition(".")[2].lower()))


def types_page() -> str:
    """Return the page of those types."""
    options = "    options:\n      show_root_heading: true\n      show_root_toc_entry: true\n      heading_level: 2\n"
    blocks = "\n".join(f"::: {path}\n{options}" for path in types())
    return f"# Other types\n\nTypes that signatures of the reference mention.\n\n{blocks}"


def _type_at(path: str) -> Named | None:
    """Return the class or alias at a path; None for anything else, and for type variables."""
    name = path.rpartition(".")[2]
    if name.startswith("_") or path.partition(".")[0] not in PACKAGES:
        return None
    try:
        found = sources()[path]
    except (KeyError, griffe.AliasResolutionError):
        return None
    alias = found.is_attribute and ALIAS.match(name) and not VARIABLE.match(str(found.value))
    return found if found.is_class or found.is_type_alias or alias else None


def _mentioned(named: Named) -> set[str]:
    """Return the canonical paths of all names in the signatures of a class, function or alias."""
    target = named.final_target if isinstance(named, griffe.Alias) else named
    members = [member for member in target.members.values() if member.is_public] if target.is_class else []
    paths = {
        str(name.canonical_path)
        for member in [target, *(m.final_target if isinstance(m, griffe.Alias) else m for m in members)]
        for expression in _expressions(member)
        for name in expression.iterate(flat=True)
        if isinstance(name, griffe.ExprName)
    }
    return {_canonical(path) for path in paths}


def _expressions(member: griffe.Object) -> Iterator[griffe.Expr]:
    """Yield the annotations of a member, and the value of an alias."""
    if isinstance(member, griffe.Function):
        candidates = [*(parameter.annotation for parameter in member.parameters), member.returns]
    elif isinstance(member, griffe.Attribute):
        candidates = [member.annotation, member.value if ALIAS.match(member.name) else None]
    else:
        candidates = []
    yield from (candidate for candidate in candidates if isinstance(candidate, griffe.Expr))


def _canonical(path: str) -> str:
    try:
        return sources()[path].canonical_path
    except (KeyError, griffe.AliasResolutionError):
        return path
