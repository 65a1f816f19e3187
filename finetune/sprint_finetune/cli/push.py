"""``sprint-finetune push``: upload a checkpoint to the Hugging Face Hub.

What counts as a file of the checkpoint is what engines and other libraries read. A training run's optimizer states and
intermediate checkpoints stay here.
"""

import re
from pathlib import Path

import typer

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint, MissingExtra
from sprint_agents.manifest import FILE_NAME, Manifest

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md", "LICENSE*")
_OF_TRAINING = frozenset({"trainer_state.json", "run.json"})
_NEEDED = ("config.json", "tokenizer.json")
_CARD = "README.md"

_CARD_TEXT = """\
---
library_name: transformers
tags:
- sprint-agents
---

# {title}

This model plans in stages and executes their subtasks in parallel
([SPRINT](https://arxiv.org/abs/2506.05745)). Its `sprint.json` says how
[sprint-agents](https://github.com/sprint-agents/sprint-agents) runs it:

```python
from sprint_agents import Sprint
from sprint_agents.engines import LocalEngine

run = Sprint(LocalEngine("{name}")).run_sync("…")
print(run.answer)
```
"""


def push_checkpoint(directory: Path, name: str, *, private: bool, dry_run: bool) -> None:
    """Upload the checkpoint in ``directory`` to the repository ``owner/name``, and print what and where.

    The repository is created if there is none. ``dry_run`` only prints. A checkpoint without a README.md gets a short
    model card there.

    Raises:
        InvalidCheckpoint: the directory is not a whole checkpoint.
        ConfigurationError: the name is not one of the Hub's, or the Hub cannot be reached, or refuses.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is not a name on the Hub: give OWNER/NAME, such as my-team/my-model")
    manifest, files = checkpoint_files(directory)
    sizes = {file.name: file.stat().st_size for file in files}
    card = None if _CARD in sizes else _CARD_TEXT.format(title=manifest.model, name=name).encode()
    if card is not None:
        sizes[f"{_CARD} (new)"] = len(card)
    for file, size in sizes.items():
        typer.echo(f"{size:>14,}  {file}")
    total = f"{len(sizes)} files, {sum(sizes.values()):,} bytes"
    if dry_run:
        typer.echo(f"{total} would go to {name}, {'private' if private else 'public'} if it is created")
    else:
        typer.echo(f"{total} are at {_upload(files, card, name, private=private)}")


def checkpoint_files(directory: Path) -> tuple[Manifest, list[Path]]:
    """Return the manifest of a checkpoint and its files to upload, by name.

    Raises:
        InvalidCheckpoint: the directory has no configuration, tokenizer, weights or manifest.
    """
    if not directory.is_dir():
        raise InvalidCheckpoint(
            f"{directory} is not a directory: give the checkpoint that `sprint-finetune train` printed"
        )
    files = sorted({path for pattern in _PATTERNS for path in directory.glob(pattern) if path.is_file()})
    files = [path for path in files if path.name not in _OF_TRAINING]
    names = {path.name for path in files}
    missing = [name for name in _NEEDED if name not in names]
    if not any(name.endswith(".safetensors") for name in names):
        missing.append("*.safetensors")
    manifest = Manifest.load(directory)
    if manifest is None:
        missing.append(FILE_NAME)
    if manifest is None or missing:
        raise InvalidCheckpoint(f"{directory} is not a checkpoint of this library: it has no {', '.join(missing)}")
    return manifest, files


def _upload(files: list[Path], card: bytes | None, name: str, *, private: bool) -> str:
    """Upload everything in one commit; return the address of the repository."""
    try:
        from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
    except ModuleNotFoundError as error:
        raise MissingExtra("finetune", "huggingface_hub") from error
    if constants.is_offline_mode():
        raise ConfigurationError("HF_HUB_OFFLINE is set, so nothing can be uploaded: unset it")
    if get_token() is None:
        raise ConfigurationError("you are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN")
    operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
    if card is not None:
        operations.append(CommitOperationAdd(path_in_repo=_CARD, path_or_fileobj=card))
    hub = HfApi()
    try:
        address = hub.create_repo(name, private=private or None, exist_ok=True)  # None: as the owner's settings say
        public = private and not hub.repo_info(name).private
        if not public:
            hub.create_commit(name, operations, commit_message="Upload with sprint-finetune")
    except Exception as error:  # the library raises errors of several libraries
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigurationError(
            f"the Hub ({constants.ENDPOINT}) did not take {name}: {reason}. Check the connection, and that your token "
            "may write there"
        ) from error
    if public:
        raise ConfigurationError(
            f"{name} exists and is public, so nothing was uploaded: make it private on the Hub first"
        )
    return str(address)
