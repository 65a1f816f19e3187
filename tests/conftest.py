"""What every test run shares: one thread per process, no hub, reproducible property tests."""

import os

from hypothesis import HealthCheck, settings

# Read when torch and transformers are first imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # its monitor thread outlives the bar

# No deadlines: a loaded machine is not a failure. In CI the same examples every time, and no stored ones.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
