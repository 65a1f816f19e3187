"""A run that SIGKILL ends at ten points, one after the other, ends as an uninterrupted run does."""

import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM

from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path

POINTS = (
    ("encoding", 2),  # the second sample is being encoded
    ("record", 1),  # run.json is half-written
    ("weights", 1),  # the weights of the first checkpoint are half-written
    ("optimizer", 1),  # so is the state of its optimiser
    ("solving", 1),  # the first checkpoint is complete, and its problems are not solved
    ("log", 1),  # the log is being rewritten
    ("line", 1),  # a line of the log is half-written
    ("step", 1),  # the weights of a step are updated, and nothing of it is written
    ("state", 1),  # the trainer's state, which completes a checkpoint, is half-written
    ("export", 1),  # the trained model is half-written
)

PROGRAM = """
import io, os, signal, sys
from pathlib import Path
import torch
import safetensors.torch
import transformers.modeling_utils
from transformers import TrainerState
from sprint_finetune.training import checkpoints, corpus, finetune, solving, trainer
from sprint_finetune.training.settings import Settings

torch.set_num_threads(1)
where, left = None, 0

def reach(point):
    global left
    left -= point == where
    if point == where and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name, point):
    whole = getattr(owner, name)
    def noted(*arguments, **options):
        reach(point)
        return whole(*arguments, **options)
    setattr(owner, name, noted)

def after(owner, name, point):
    whole = getattr(owner, name)
    def noted(*arguments, **options):
        result = whole(*arguments, **options)
        reach(point)
        return result
    setattr(owner, name, noted)

def half(path, point):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    reach(point)
    Path(path).write_bytes(content)

save, store = torch.save, transformers.modeling_utils.safe_save_file
write, dump = Path.write_text, TrainerState.save_to_json

def save_half(state, path, **options):
    save(state, path, **options)
    if str(path).endswith("optimizer.pt"):
        half(path, "optimizer")

def store_half(weights, path, **options):
    store(weights, path, **options)
    half(path, "export" if "checkpoint.partial" in str(path) else "weights")

def write_half(self, text, **options):
    write(self, text[: len(text) // 2], **options)
    if self.name.startswith("run.json"):
        reach("record")
    if self.name.startswith("log."):
        reach("log")
    return write(self, text, **options)

def dump_half(self, path):
    dump(self, path)
    half(path, "state")

def log_half(self, arguments, state, control, logs=None, **options):
    with self._path.open("a") as file:
        file.write('{"step": 9')
    reach("line")
    os.truncate(self._path, os.path.getsize(self._path) - len('{"step": 9'))
    return log(self, arguments, state, control, logs=logs, **options)

async def solve(checkpoint, problems):  # what the model writes does not matter here
    assert (checkpoint / "sprint.json").exists()
    reach("solving")
    return {"solved": 0.5}

log, trainer.TrainingLog.on_log = trainer.TrainingLog.on_log, log_half
torch.save, transformers.modeling_utils.safe_save_file = save_half, store_half
Path.write_text, TrainerState.save_to_json = write_half, dump_half
before(corpus, "encode_calls", "encoding")
solving._solve = solve
after(torch.optim.AdamW, "step", "step")

for line in sys.stdin:
    recipe, where, left = line.split()
    left = int(left)
    if (child := os.fork()) == 0:
        finetune.train(Settings.load(Path(recipe)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Trains in a new process for each line of a recipe, a point, and how often the run passes it until it is killed."""


def recipe(folder, name):
    manifest = Manifest.load(nano_path())
    path = folder / f"{name}.toml"
    path.write_text(
        f'model = "{nano_path()}"\ndata = ["{folder / "data.jsonl"}"]\nsolve = ["{folder / "solve.jsonl"}"]\n'
        f'output = "{folder / name}"\npack = false\nsteps = 3\nlearning_rate = 1e-6\nsave_every = 1\nlog_every = 1\n'
        f'[manifest]\nmodel = "tiny"\ntemperature = 0\nquestion = {json.dumps(manifest.question)}\n'
    )
    return path


def test_a_run_killed_at_ten_points_ends_as_if_nothing_had_happened(tmp_path):
    answer = "<think>\n7\n</think>\n<Final_answer>\n\\boxed{7}\n</Final_answer>"
    samples = [{"id": str(n), "problem": f"{n}+1?", "text": answer, "answer": "7"} for n in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
    (tmp_path / "solve.jsonl").write_text(json.dumps({**samples[0], "problem": "What is 3 + 4?"}) + "\n")
    whole, killed = recipe(tmp_path, "whole"), recipe(tmp_path, "killed")
    points = [(whole, "nowhere", 1), *((killed, *point) for point in POINTS), (killed, "nowhere", 1)]
    lines = "".join(f"{path} {point} {times}\n" for path, point, times in points)
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=lines, capture_output=True, text=True)
    codes = [line for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]
    assert codes == ["0", *["-9"] * len(POINTS), "0"], done.stderr
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name / "checkpoint") for name in ("whole", "killed"))
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name]), name
    assert logged(tmp_path / "whole") == logged(tmp_path / "killed")
    assert len(logged(tmp_path / "whole")) == 2 * 3 + 1
    assert not list((tmp_path / "killed").rglob("exported"))


def logged(run):
    """The log without what depends on the time."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if not name.startswith(("train_", "total_flos"))} for line in lines
    ]
