"""llama.cpp's server as a process, for as long as a block lasts.

The server runs in the environment that ``make real`` builds, by this file as a script. It ends when its input ends, so
it never outlives the process that started it, even if that one is killed.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

PYTHON = Path(__file__).parents[2] / ".venv-real" / "bin" / "python"
_PATIENCE = 30.0


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
        with ExitStack() as stack:
            log = stack.enter_context(TemporaryFile())
            settings = json.dumps({"model": str(self.model), "name": self.name, **asdict(self.options)})
            self._process = subprocess.Popen(  # noqa: S603
                [PYTHON, __file__, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
            stack.callback(self._end)
            assert self._process.stdout is not None
            self.url = self._process.stdout.readline().decode().strip()
            if not self.url:
                log.seek(0)
                raise RuntimeError(f"the llama.cpp server did not start:\n{log.read().decode(errors='replace')}")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(model: str, name: str, options: Options) -> None:
    """Serve until the input ends; the only output is the server's address."""
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
    sys.stdin.buffer.read()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    serve(given.pop("model"), given.pop("name"), Options(**given))
