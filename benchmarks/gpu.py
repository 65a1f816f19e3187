"""Check and measure everything that runs on a GPU, in less than eight minutes, with torch and transformers alone.

    python benchmarks/gpu.py --out gpu.json
    python benchmarks/gpu.py --device cpu --dry-run        # the same parts, tiny, in a minute

- tokens: the embedded engine's greedy tokens against the CPU's, in three types, and whole runs of sprint-nano
- pairs: sprint-nano against its sequential twin by the clock (``clock.py``)
- decode: a decode step by width, on the engine's own model code and on transformers'
- speedup: runs of sprint-nano replayed by their lengths on it and on a random model of 0.5 billion weights
- flex: flex attention against SDPA on tries, with gradients
- memory: 20 steps of fine-tuning that random model, and its memory against what ``sprint-finetune plan`` says
- trainer: the same by transformers' ``Trainer``, on a tiny model; it needs accelerate

Each part runs in its own process with its own time limit, so one that fails does not stop the others. The file has the
figures or the error of each, and is written after each part. Timings wait for the device, and float32 is computed in
full (no TF32). ``--parts`` selects some.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PARTS = {"tokens": 75, "pairs": 90, "decode": 75, "speedup": 75, "flex": 60, "memory": 75, "trainer": 30}
"""The parts, and how many seconds each may take: 480 together."""


def figures(part: str, device: str, folder: Path, *, dry_run: bool) -> dict[str, Any]:
    """Run a part in this process."""
    import torch
    from device import engine, training
    from device.options import Options

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    functions = {
        "tokens": engine.tokens,
        "pairs": engine.pairs,
        "decode": engine.decode,
        "speedup": engine.speedup,
        "flex": training.flex,
        "memory": training.memory,
        "trainer": training.trainer,
    }
    return functions[part](Options(device, dry_run, folder))


def machine(device: str) -> dict[str, Any]:
    """Describe the machine."""
    import torch
    import transformers

    known = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    if torch.device(device).type != "cuda":
        return known
    properties = torch.cuda.get_device_properties(device)
    return known | {
        "gpu": properties.name,
        "gib": properties.total_memory / 2**30,
        "cuda": torch.version.cuda,
        "capability": f"{properties.major}.{properties.minor}",
    }


def run_part(part: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a part in its own process; return its figures or its error, and its seconds."""
    answer = folder / f"{part}.json"
    command = [sys.executable, __file__, "--device", options.device, "--one", part, str(folder)]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {})
    started = time.perf_counter()
    found: dict[str, Any]
    try:
        done = subprocess.run(
            command + ["--dry-run"] * options.dry_run,
            env=environment,
            timeout=None if options.dry_run else PARTS[part],
            capture_output=True,
            text=True,
        )
        found = json.loads(answer.read_text()) if done.returncode == 0 else {"error": done.stderr[-2000:]}
    except subprocess.TimeoutExpired:
        found = {"error": f"it took more than {PARTS[part]} seconds"}
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, print their figures as they come, and write them to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes, to see that every part works")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--one", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        part, folder = options.one[0], Path(options.one[1])
        found = figures(part, options.device, folder, dry_run=options.dry_run)
        (folder / f"{part}.json").write_text(json.dumps(found))
        return
    try:
        results: dict[str, Any] = {"machine": machine(options.device)}
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        parser.exit(1, f"the device {options.device} cannot be used: {error}\n")
    with tempfile.TemporaryDirectory() as name:
        for part in options.parts:
            results[part] = run_part(part, options, Path(name))
            print(f"{part}: {json.dumps(results[part], indent=2)}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=2) + "\n")
    if failed := [part for part in options.parts if "error" in results[part]]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
