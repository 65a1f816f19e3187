"""Let ``import torchvision`` succeed beside a CPU build of torch.

SGLang imports torchvision when it starts. The wheel on PyPI is a CUDA build: its extension cannot load here, and the
import then fails, since torchvision describes two operators that no library has declared. Declaring their signatures is
enough to import; calling one still raises, as it should.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; notices the first import of torchvision, when torch may be imported too."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            from torch import library, version

            if version.cuda is None:
                for operator in OPERATORS:
                    library.define(f"torchvision::{operator}", SIGNATURE)
        return None


def prepare() -> None:
    """Watch for the first import of torchvision; called at the start of each interpreter by the ``.pth`` file."""
    sys.meta_path.insert(0, _BeforeTorchvision())
