"""Objects of yours that a command line names: ``MODULE:NAME`` or ``FILE.py:NAME``."""

import os
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from sprint_agents.errors import ConfigurationError, describe


def load_object(target: str, *, wanted: str) -> object:
    """Load ``MODULE:NAME`` or ``FILE.py:NAME``. Modules are also looked for in the working directory.

    ``wanted`` says in messages what the object should be.

    Raises:
        ConfigurationError: there is no such module, file or name, or the module raises.
    """
    module, _, name = target.rpartition(":")
    sys.path.insert(0, os.getcwd())  # as ``python -m`` does
    try:
        found = _from_file(Path(module)) if module.endswith(".py") else import_module(module)
        return getattr(found, name)
    except Exception as error:  # whatever the module raises
        raise ConfigurationError(f"{target} cannot be loaded ({describe(error)}): give {wanted}") from error
    finally:
        sys.path.remove(os.getcwd())


def _from_file(path: Path) -> ModuleType:
    spec = spec_from_file_location(str(path.resolve()), path)  # a name that no other module has
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
