"""Files of rollouts, as ``sprint batch --rollouts`` writes them."""

from pathlib import Path

from pydantic import ValidationError

from sprint_agents.errors import ConfigurationError
from sprint_agents.rollouts import Rollout


def read_rollouts(path: Path) -> list[Rollout]:
    """Read a file of rollouts, one a line; of several with one id, the last counts.

    The last line may be cut short, by a process that was killed.

    Raises:
        ConfigurationError: the file cannot be read, or another line is not a rollout.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    found: dict[str, Rollout] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rollout = Rollout.model_validate_json(line)
        except ValidationError as error:
            if number == len(lines):  # a whole line ends with a line break
                break
            first = error.errors()[0]
            where = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise ConfigurationError(
                f"{path}, line {number} is not a rollout: {where}. Give a file that `sprint batch --rollouts` wrote"
            ) from error
        found[rollout.run_id] = rollout
    return list(found.values())
