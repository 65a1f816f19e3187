"""llama.cpp's server as a process, for as long as a block lasts.

The server runs in the environment that ``make real`` builds, by this file as a script.
"""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

PYTHON = Path(__file__).parents[2] / ".venv-real" / "bin" / "python"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The server's options, by the names of its command line.

    ``context`` is the number of tokens for all ``slots`` together; a ``unified`` one is divided among them as needed.
    ``save_path`` is a directory for saved slots; without one, slots cannot be copied. ``template`` replaces the model's
    chat template. Several ``threads`` wait for each other in busy loops, so more of them than there are idle cores are
    many times slower than one.
    """

    context: int = 8192
    slots: int = 4
    unified: bool = False
    threads: int = 1
    save_path: str = ""
    template: str = ""


class LlamaCppServer:
    """A server for one GGUF file on a free port, as a context manager; ``name`` is the model's name there.

    Raises:
        RuntimeError: the server ended while starting; the message has its log.
    """

    def __init__(self, model: Path, options: Options | None = None, *, name: str = "smollm2") -> None:
        self.model, self.name = model, name
        self.options = options or Options()
        self.url = ""

    def __enter__(self) -> Self:
        """Start the server and wait until it has loaded the model."""
        from sprint_agents.engines.guard import guarded  # not in the server's environment

        with ExitStack() as stack:
            log = stack.enter_context(TemporaryFile())
            settings = json.dumps({"model": str(self.model), "name": self.name, **asdict(self.options)})
            command, pipe = guarded([str(PYTHON), __file__, settings]), subprocess.PIPE
            process = stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True)  # noqa: S603
            )
            assert process.stdout is not None
            self.url = process.stdout.readline().decode().strip()
            if not self.url:
                log.seek(0)
                raise RuntimeError(f"the llama.cpp server did not start:\n{log.read().decode(errors='replace')}")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def serve(model: str, name: str, options: Options) -> None:
    """Serve until a signal ends this process; the only output is the server's address."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.model_alias = {name}
    settings.n_ctx, settings.n_parallel, settings.kv_unified = options.context, options.slots, options.unified
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = options.threads
    settings.chat_template = options.template
    settings.slot_save_path = f"{options.save_path}/" if options.save_path else ""
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    serve(given.pop("model"), given.pop("name"), Options(**given))
