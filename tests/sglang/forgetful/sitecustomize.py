"""Makes the server forget a request whose connection is closed, as SGLang 0.5.18 and 0.5.19 do.

With this folder in its ``PYTHONPATH``, a newer server cleans up as those did (``TokenizerManager`` in
``sglang/srt/managers/tokenizer_manager.py``, ``_discard_pending_req_states``): it drops its record of the request, so
that a later abort is ignored, while the scheduler computes the request to its end.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _forget(manager: Any, request_states: dict[str, Any]) -> None:
    for rid in request_states:
        manager.rid_to_state.pop(rid, None)


class _BeforeTheServer(MetaPathFinder):
    """Finds nothing; notices the import of the HTTP server."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "sglang.srt.entrypoints.http_server":
            sys.meta_path.remove(self)
            from sglang.srt.managers.tokenizer_manager import TokenizerManager

            if not hasattr(TokenizerManager, "_release_req_states_on_failure"):
                raise ImportError("this SGLang cleans up in another way: see the module's docstring")
            TokenizerManager._release_req_states_on_failure = _forget
        return None


sys.meta_path.insert(0, _BeforeTheServer())
