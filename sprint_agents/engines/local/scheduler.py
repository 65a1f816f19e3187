"""Which tokens the next forward pass computes, and what happens to a branch after it.

A step takes the next token of every branch that decodes, and up to ``prefill_chunk`` tokens of prompts, first come
first served, so a long prompt never stalls decoding for longer than one chunk. Branches join and leave between steps.

Memory: a waiting request starts when its own tokens fit, in the order of arrival, and a request whose prefix another
one is computing right now waits for that, so a shared prefix is computed once even if all come at once. When memory
runs out, what nobody uses is forgotten, and if that is not enough, the youngest branch goes back to the front of the
queue and is computed again later. No request has more tokens than ``cache_tokens``, so the oldest always goes on:
nothing waits forever.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sprint_agents.engine import Finish, Request

from .attention import Chunk, Step
from .bounds import Bounds
from .branch import Branch
from .grammar import Grammar, Grammars
from .model import Model
from .radix import Node, RadixTree, Run, common_prefix
from .sampling import Draw, draw
from .storage import Span, Store
from .stream import Piece
from .text import TextStream

_HEADROOM = 16
"""A request starts only if every running branch could then decode this many tokens."""

_EVICTION = 64
"""Eviction frees at least one part in this many of the cache, so that it is not done at every step."""

_SHORTEST_TAIL, _LONGEST_TAIL = 16, 256
"""Bounds of the tokens in a tail; in between, all tails together are half as many tokens as the cache may have."""


@dataclass(slots=True)
class Totals:
    """Tokens since the start: of prompts, of these the cached ones, computed by prefills, and generated."""

    prompt: int = 0
    cached: int = 0
    computed: int = 0
    generated: int = 0
    preempted: int = 0
    """Branches that were put back into the queue."""


class Scheduler:
    """Computes branches step by step over one store and one radix tree. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        cache_tokens: int | None,
        prefill_chunk: int,
        max_running: int,
    ) -> None:
        self._cache_tokens = cache_tokens or model.room()
        self.bounds = Bounds(vocabulary=model.vocabulary, limit=min(model.limit, self._cache_tokens))
        tail = min(max(self._cache_tokens // (2 * max_running), _SHORTEST_TAIL), _LONGEST_TAIL)
        self.store = Store(model.geometry, tail)
        self.tree: RadixTree[Span] = RadixTree()
        self.totals = Totals()
        self.waiting: deque[Branch] = deque()
        self.prefilling: list[Branch] = []
        self.decoding: list[Branch] = []
        """In the order of the slab's rows."""
        self._model = model
        self._tokenizer = tokenizer
        self._prefill_chunk = prefill_chunk
        self._max_running = max_running
        self._admitted = 0
        self._grammars: Grammars | None = None
        self._step: Step | None = None
        """The last step, if the next one is like it but for its tokens."""

    @property
    def running(self) -> list[Branch]:
        """The branches that hold memory."""
        return self.prefilling + self.decoding

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not (self.waiting or self.prefilling or self.decoding)

    def submit(self, request: Request, ids: list[int]) -> Branch:
        """Put a request with the context ``ids`` into the queue."""
        branch = Branch(
            tokens=ids,
            prompt_tokens=len(ids),
            max_tokens=request.max_tokens,
            end=min(len(ids) + request.max_tokens, self.bounds.limit),
            stop_ids=request.stop_ids | self._model.end_ids,
            draw=Draw(request.sampling),
            text=TextStream(self._tokenizer, ids, request.stop_texts),
            grammar=self._grammar(request),
        )
        self.waiting.append(branch)
        return branch

    @torch.inference_mode()
    def remove(self, branch: Branch) -> None:
        """Stop a branch; what it computed stays in the cache."""
        if branch.span is None:
            self.waiting.remove(branch)
        else:
            self._release(branch)

    def reset(self) -> None:
        """Forget all that runs and the cache, after a failure; what waits goes on waiting."""
        self.prefilling, self.decoding = [], []
        self.tree = RadixTree()
        self.store = Store(self.store.geometry, self.store.tail_tokens)
        self._step = None

    @torch.inference_mode()
    def step(self) -> list[tuple[Branch, Piece]]:
        """Compute the next tokens of what runs; return what came out, at most one token per branch."""
        self._admit()
        self._make_room()
        chunks = self._chunks()
        if not chunks and not self.decoding:
            return []
        logits, sampled = self._compute(chunks)
        outputs: list[tuple[Branch, Piece]] = []
        for branch, _ in chunks:
            if branch.done == len(branch.tokens):
                if branch.max_tokens:
                    self._decode(branch)
                else:
                    outputs.append((branch, Piece((), "", self._finish(branch, "length", None))))
        if sampled:
            for row, branch in enumerate(sampled):
                if branch.grammar is not None:
                    branch.grammar.restrict(logits[row])
            tokens = draw(logits, [branch.draw for branch in sampled])
            self.totals.generated += len(tokens)
            outputs += [(branch, self._accept(branch, token)) for branch, token in zip(sampled, tokens, strict=True)]
        return outputs

    def _admit(self) -> None:
        """Start waiting branches, in order, as far as there is room."""
        stored = False
        for branch in [*self.waiting]:
            if len(self.prefilling) + len(self.decoding) >= self._max_running:
                return
            leader = branch.leader
            if leader is not None and leader in self.prefilling and leader.done < branch.awaited:
                continue
            branch.leader = None
            if not stored:
                for running in self.running:
                    self._store(running)
                stored = True
            prefix = branch.tokens[:-1]  # the last token is always computed: its logits are wanted
            node, length = self.tree.match(prefix)
            if self._awaits(branch, prefix, length):
                continue
            self.tree.pin(node)
            if not self._fits(len(branch.tokens) - length):
                self.tree.unpin(node)
                return
            self.waiting.remove(branch)
            self._start(branch, node, length)

    def _awaits(self, branch: Branch, prefix: list[int], length: int) -> bool:
        """Whether another branch is about to compute more of the prefix than the ``length`` tokens that are stored."""
        for other in self.prefilling:
            common = common_prefix(other.tokens, prefix)
            if common > length:
                branch.leader, branch.awaited, length = other, common, common
        return branch.leader is not None

    def _fits(self, tokens: int) -> bool:
        """Make room for a branch with ``tokens`` tokens of its own, if there is enough unused; alone it always fits."""
        running = len(self.prefilling) + len(self.decoding)
        unused = self.tree.tokens - self.tree.pinned_tokens
        needed = self.store.tokens - self._cache_tokens + tokens
        if running and needed + _HEADROOM * (running + 1) > unused:
            return False
        self._evict(needed)
        return True

    def _start(self, branch: Branch, node: Node[Span], length: int) -> None:
        """Give a branch its memory; it decodes at once if only its last token is not in the cache."""
        own = len(branch.tokens) - length
        if branch.cached_tokens is None:
            branch.cached_tokens = length
            self.totals.prompt += branch.prompt_tokens
            self.totals.cached += length
        self._admitted += 1
        branch.order = self._admitted
        branch.node = node
        branch.done = branch.known = length
        span, branch.prefix = self._continued(node)
        branch.first = length - (span.body_tokens if span else 0)
        at_once = own == 1 and branch.max_tokens > 0
        branch.span = self.store.begin(0 if at_once else own, after=span)
        if at_once:
            self._join(branch)
        else:
            self.prefilling.append(branch)

    def _continued(self, node: Node[Span]) -> tuple[Span | None, Node[Span]]:
        """Find a short span that ends at ``node`` and that nobody else uses, and the node that it begins after.

        A branch that goes on there makes it longer instead of beginning another: a conversation of many short turns
        stays few runs.
        """
        runs = self.tree.runs(node)
        if not runs or node.children or node.pins > 1:
            return None, node
        span, start, stop = runs[-1]
        if start or stop < span.body_tokens or stop > self.store.tail_tokens:
            return None, node
        above = node
        while above.span is span and above.parent is not None:
            above = above.parent
        return span, above

    def _decode(self, branch: Branch) -> None:
        """Go over from the prompt to decoding."""
        self.prefilling.remove(branch)
        self._join(branch)

    def _join(self, branch: Branch) -> None:
        assert branch.span is not None
        self.store.join(branch.span)
        self.decoding.append(branch)
        self._step = None

    def _make_room(self) -> None:
        """Have room for one more token of every branch that decodes."""
        while (overflow := self.store.tokens + len(self.decoding) - self._cache_tokens) > 0:
            self._evict(overflow)
            running = self.running
            if len(running) == 1 or self.store.tokens + len(self.decoding) <= self._cache_tokens:
                break
            youngest = max(running, key=lambda branch: branch.order)
            self._release(youngest)
            self.waiting.appendleft(youngest)
            self.totals.preempted += 1
        if self.store.make_room():
            self._step = None

    def _evict(self, tokens: int) -> None:
        if tokens > 0 and self.tree.tokens > self.tree.pinned_tokens:
            self.tree.evict(max(tokens, self._cache_tokens // _EVICTION))

    def _chunks(self) -> list[tuple[Branch, int]]:
        """Choose the parts of prompts that the next step computes."""
        left = self._prefill_chunk
        chunks: list[tuple[Branch, int]] = []
        for branch in self.prefilling:
            tokens = min(left, len(branch.tokens) - branch.done)
            if tokens:
                chunks.append((branch, tokens))
            left -= tokens
        return chunks

    def _compute(self, chunks: Sequence[tuple[Branch, int]]) -> tuple[Tensor, list[Branch]]:
        """Run the model; return the logits of those branches that get a token now, and the branches."""
        decoding = self.decoding
        ids = [branch.tokens[-1] for branch in decoding]
        positions = [branch.done for branch in decoding]
        wanted = [*range(len(decoding))]
        sampled = [*decoding]
        for branch, tokens in chunks:
            ids += branch.tokens[branch.done : branch.done + tokens]
            positions += range(branch.done, branch.done + tokens)
            if branch.done + tokens == len(branch.tokens) and branch.max_tokens:
                wanted.append(len(ids) - 1)
                sampled.append(branch)
        step = self._step if self._step is not None and not chunks else self._plan(chunks)
        step.advance()
        device = self.store.geometry.device
        logits = self._model.forward(
            torch.tensor([ids], device=device),
            torch.tensor([positions], device=device),
            torch.tensor(wanted, dtype=torch.long, device=device) if chunks else None,
            step,
        )
        self._step = None if chunks else step
        for branch in decoding:
            assert branch.span is not None
            self.store.append(branch.span)
            branch.done += 1
        for branch, tokens in chunks:
            branch.done += tokens
            self.totals.computed += tokens
        return logits, sampled

    def _plan(self, chunks: Sequence[tuple[Branch, int]]) -> Step:
        """Say what every query of the next step sees; a decoding branch sees the body of its own span too."""
        seen: list[list[Run[Span]]] = []
        for branch in self.decoding:
            assert branch.span is not None
            assert branch.prefix is not None
            body = branch.span.body_tokens
            own = [Run(branch.span, 0, body)] if body else []
            seen.append(self.tree.runs(branch.prefix) + own)
        parts: list[Chunk] = []
        for branch, tokens in chunks:
            assert branch.span is not None
            assert branch.prefix is not None
            runs = self.tree.runs(branch.prefix)
            parts.append(Chunk(branch.span, runs, branch.done - branch.first, tokens))
        return Step(self.store, seen, parts)

    def _grammar(self, request: Request) -> Grammar | None:
        if request.schema is None:
            return None
        if self._grammars is None:
            end_ids = self._model.end_ids or request.stop_ids
            self._grammars = Grammars(self._tokenizer, vocabulary=self.bounds.vocabulary, end_ids=end_ids)
        return self._grammars.of(request.schema, end_ids=request.stop_ids | self._model.end_ids)

    def _accept(self, branch: Branch, token: int) -> Piece:
        """Append a token; end the branch if it is to end here."""
        branch.tokens.append(token)
        if branch.grammar is not None and token not in branch.stop_ids:
            branch.grammar.accept(token)
        text, stop = branch.text.feed(token)
        finish: Finish | None = None
        if token in branch.stop_ids:
            finish = self._finish(branch, "stop", token)
        elif stop is not None:
            finish = self._finish(branch, "stop", stop)
        elif len(branch.tokens) >= branch.end:
            finish = self._finish(branch, "length", None)
        if finish is not None:
            text += branch.text.flush()
        return Piece((token,), text, finish)

    def _finish(self, branch: Branch, reason: Literal["stop", "length"], matched: int | str | None) -> Finish:
        self._release(branch)
        assert branch.cached_tokens is not None
        return Finish(reason, matched, branch.prompt_tokens, branch.cached_tokens)

    def _store(self, branch: Branch) -> None:
        """Put what a running branch computed since the last time into the tree."""
        assert branch.node is not None
        assert branch.span is not None
        if branch.known < branch.done:
            new = branch.tokens[branch.known : branch.done]
            branch.node = self.tree.insert(branch.node, new, branch.span, branch.known - branch.first)
            branch.known = branch.done

    def _release(self, branch: Branch) -> None:
        """Take the memory from a running branch; of its own tokens, those that the tree refers to stay."""
        self._store(branch)
        span, node = branch.span, branch.node
        assert span is not None
        assert node is not None
        if span.row is None:
            self.prefilling.remove(branch)
        else:
            row, last = self.store.leave(span), self.decoding.pop()
            if last is not branch:
                self.decoding[row] = last
        kept = [piece for piece in reversed([*node.path()]) if piece.span is span]
        self.store.keep(span, [(piece.start, piece.stop) for piece in kept])
        start = 0
        for piece in kept:  # what another branch had put into the tree first is gone from in between
            piece.start, start = start, start + len(piece.tokens)
        self.tree.unpin(node)
        branch.span = branch.node = branch.prefix = None
        self._step = None
