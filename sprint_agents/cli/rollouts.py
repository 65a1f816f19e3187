"""The file of ``sprint batch --rollouts``: the token ids of each run, one a line."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from sprint_agents import Run, Sprint
from sprint_agents.errors import ConfigurationError
from sprint_agents.rollouts import RolloutRecorder


class RolloutLines(ExitStack):
    """A file of rollouts that is open for appending, without the line that a killed process left unfinished."""

    def __init__(self, path: Path, sprint: Sprint[Any, Any]) -> None:
        """Open ``path`` for the runs of ``sprint``, whose engine is a recorder.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        super().__init__()
        assert isinstance(sprint.engine, RolloutRecorder)
        self._recorder = sprint.engine
        try:
            self._file = self.enter_context(path.open("ab+"))
            self._file.seek(0)
            whole = self._file.read().rfind(b"\n") + 1
            os.ftruncate(self._file.fileno(), whole)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error

    def append(self, run: Run[Any, Any]) -> None:
        """Append the rollout of a run, finished or failed.

        Raises:
            ConfigurationError: the engine does not show token ids.
        """
        self._file.write(self._recorder.rollout(run).model_dump_json().encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self
