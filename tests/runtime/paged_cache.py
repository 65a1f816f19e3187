"""An engine with a cache like SGLang's: whole pages, which get what a request reads with its first token."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sprint_agents import Capabilities
from sprint_agents.engine import Chunk, Request
from sprint_agents.testing import FakeEngine


@dataclass(eq=False)
class Page:
    """A page after its ``parent``; ``users`` are requests that run, and the least ``used`` one is evicted first."""

    parent: "Page | None"
    key: tuple[int, ...] = ()
    pages: dict[tuple[int, ...], "Page"] = field(default_factory=dict)
    users: int = 0
    used: int = 0


class PagedCache:
    """A tree of pages of ``size`` tokens, at most ``most`` unless more are in use."""

    def __init__(self, *, size: int, most: int | None) -> None:
        self.size, self.most = size, most
        self._root, self._pages, self._clock = Page(None), set[Page](), 0

    def find(self, ids: Sequence[int], *, new: bool = False) -> list[Page]:
        """Return the pages that hold the beginning of ``ids``; with ``new``, all whole ones, which are then there."""
        self._clock += 1
        path, node = list[Page](), self._root
        for start in range(0, len(ids) - self.size + 1, self.size):
            key = tuple(ids[start : start + self.size])
            child = node.pages.get(key)
            if child is None:
                if not new:
                    break
                child = node.pages[key] = Page(node, key)
                self._pages.add(child)
            child.used = self._clock
            path.append(child)
            node = child
        self._evict()
        return path

    def _evict(self) -> None:
        while self.most is not None and (over := len(self._pages) - self.most) > 0:
            ends = [page for page in self._pages if not (page.users or page.pages) and page.used < self._clock]
            if not ends:
                return
            for page in sorted(ends, key=lambda page: page.used)[:over]:
                assert page.parent is not None
                del page.parent.pages[page.key]
                self._pages.remove(page)


class PagedEngine(FakeEngine):
    """``shares`` is how executors get a prefix: one reads for the others, a commit always does, or never anything."""

    def __init__(self, replies: Any, *, shares: str, page: int, pool: int | None, **options: Any) -> None:
        capabilities = Capabilities(
            caches_running=shares == "never", caches_contexts=shares == "one reads", page_tokens=page
        )
        super().__init__(replies, capabilities=capabilities, **options)
        self._cache = PagedCache(size=page, most=None if pool is None else pool // page)
        self.computed = 0

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        ids = request.context.flatten()
        used = self._cache.find(ids[:-1] if request.max_tokens else ids)
        for page in used:
            page.users += 1
        self.computed += len(ids) - len(used) * self._cache.size
        read = False
        try:
            async with aclosing(super().complete(request)) as chunks:
                async for chunk in chunks:
                    if not read:
                        read, before = True, used
                        used = self._cache.find(ids, new=True)
                        for page in used:
                            page.users += 1
                        for page in before:
                            page.users -= 1
                    ids += chunk.ids
                    yield chunk
        finally:
            self._cache.find(ids[:-1] if len(ids) > len(request.context) else ids, new=read)
            for page in used:
                page.users -= 1
