"""The file of a journal, read: its header and its contents, which may be another run's."""

from collections.abc import Sequence
from pathlib import Path as FilePath

from pydantic import ValidationError

from sprint_agents.errors import JournalError

from .journal_file import damaged, outdated, parse
from .journal_records import AnyRecord, JournalHeader, any_record
from .recorded import RecordedStages
from .settings import changed_settings


def read_journal(path: FilePath) -> tuple[JournalHeader, RecordedStages]:
    """Return the header and the contents of a journal, which is neither locked nor changed.

    Raises:
        JournalError: it cannot be read, is no journal, or has an older format.
    """
    try:
        lines, _ = parse(path.read_bytes(), path)
    except OSError as error:
        raise damaged(path, str(error)) from error
    if not lines:
        raise damaged(path, "it has no complete line")
    header, records = read_records([record for _, record in lines], path)
    return header, RecordedStages.read(records)


def read_records(lines: Sequence[bytes], path: FilePath) -> tuple[JournalHeader, list[AnyRecord]]:
    """Return the header and the other records of a journal.

    Raises:
        JournalError: one of them is none, or has an older format.
    """
    if lines[0].startswith(b'{"journal":2,'):
        raise outdated(path)
    try:
        return JournalHeader.model_validate_json(lines[0]), [any_record.validate_json(line) for line in lines[1:]]
    except ValidationError as error:
        raise damaged(path, error.errors()[0]["msg"]) from error


def check_header(path: FilePath, found: JournalHeader, header: JournalHeader) -> None:
    """Refuse to resume another run.

    Raises:
        JournalError: the task, the policy, or a setting differs.
    """
    if (found.task, found.policy) != (header.task, header.policy):
        raise JournalError(
            f"{path} is the journal of policy {found.policy!r} on {found.task!r}: use another path for this run"
        )
    if changed := changed_settings(found.settings, header.settings):
        raise JournalError(
            f"{path} was written with other settings, and a resumed run would mix both. Changed since: "
            f"{', '.join(changed)}. Resume with the settings that began the run, or use another path"
        )
