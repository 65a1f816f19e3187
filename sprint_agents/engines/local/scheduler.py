"""The scheduler: which tokens the next forward pass computes, and what happens to their sequences after it.

A step computes the next token of every decoding sequence and up to ``prefill_chunk`` tokens of prompts, first come,
first served. So a long prompt never delays decoding by more than one chunk. Sequences join and leave between steps.

A sequence is waiting, prefilling, decoding, then finished. One that lacks only its last token skips prefilling.

Invariants:

- A waiting sequence starts when its own tokens fit, in order of arrival. While another sequence computes a longer part
  of its prefix than is stored, it waits for that one, and later arrivals may overtake it. So a shared prefix is
  computed once, even if all its requests arrive together.
- When memory runs out, unused parts of the tree are evicted. If that is not enough, the latest admitted sequence is
  preempted and computed again later.
- No request needs more than ``cache_tokens``, so the earliest admitted sequence always continues: none waits forever.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sprint_agents.engine import Finish, Request, TokenLogprob

from .attention import ForwardBatch, PrefillChunk
from .detokenizer import Detokenizer
from .grammar import Grammar, GrammarCompiler
from .kv_cache import KVCache, KVSegment
from .model import Model
from .output import TokenOutput
from .radix import RadixNode, RadixTree, SegmentRange, common_prefix
from .sampling import Sampler, draw
from .sequence import TokenSequence

_HEADROOM = 16
"""A sequence starts only if every running sequence could then decode this many more tokens."""

_EVICTION = 64
"""Eviction frees at least one part in this many of the cache, so that it does not run at every step."""

_MIN_TAIL, _MAX_TAIL = 16, 256
"""Bounds of the tail capacity. Between them, all tails together have half as many tokens as the cache."""


@dataclass(slots=True)
class Totals:
    """Counts since the start, of tokens except for ``preempted``."""

    prompt: int = 0
    cached: int = 0
    computed: int = 0
    generated: int = 0
    preempted: int = 0
    """Sequences that returned to the queue."""


class Scheduler:
    """Computes sequences step by step, over one KV cache and one radix tree. Only one thread may use it."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        cache_tokens: int | None,
        prefill_chunk: int,
        max_running: int,
    ) -> None:
        self._cache_tokens = cache_tokens or model.default_cache_tokens()
        self.vocabulary = model.vocabulary
        self.context_limit = min(model.context_limit, self._cache_tokens)
        tail = min(max(self._cache_tokens // (2 * max_running), _MIN_TAIL), _MAX_TAIL)
        self.cache = KVCache(model.geometry, tail)
        self.tree: RadixTree[KVSegment] = RadixTree()
        self.totals = Totals()
        self.waiting: deque[TokenSequence] = deque()
        self.prefilling: list[TokenSequence] = []
        self.decoding: list[TokenSequence] = []
        """In the order of the slab's rows."""
        self._model = model
        self._tokenizer = tokenizer
        self._prefill_chunk = prefill_chunk
        self._max_running = max_running
        self._admitted = 0
        self._grammars: GrammarCompiler | None = None
        self._batch: ForwardBatch | None = None
        """The batch of the last step, if the next step can use it again."""

    @property
    def running(self) -> list[TokenSequence]:
        """The sequences that hold memory."""
        return self.prefilling + self.decoding

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not (self.waiting or self.prefilling or self.decoding)

    def submit(self, request: Request, ids: list[int]) -> TokenSequence:
        """Put a request with the context ``ids`` into the queue."""
        sequence = TokenSequence(
            tokens=ids,
            prompt_tokens=len(ids),
            max_tokens=request.max_tokens,
            length_limit=min(len(ids) + request.max_tokens, self.context_limit),
            stop_ids=request.stop_ids | self._model.end_ids,
            sampler=Sampler(request.sampling, written=ids[len(ids) - request.written :]),
            detokenizer=Detokenizer(self._tokenizer, ids, request.stop_texts),
            grammar=self._grammar(request, ids[len(ids) - request.written :]),
        )
        self.waiting.append(sequence)
        return sequence

    def _grammar(self, request: Request, written: list[int]) -> Grammar | None:
        if request.schema is None:
            return None
        if self._grammars is None:
            end_ids = self._model.end_ids or request.stop_ids
            self._grammars = GrammarCompiler(self._tokenizer, vocabulary=self.vocabulary, end_ids=end_ids)
        ends = request.stop_ids | self._model.end_ids
        grammar = self._grammars.compile(request.schema, end_ids=ends, thoughts=request.thoughts)
        # What was written without the grammar may not fit it; then it cannot hold the rest either.
        return grammar if grammar.advance(written) else None

    @torch.inference_mode()
    def remove(self, sequence: TokenSequence) -> None:
        """Stop a sequence; the tokens that it computed stay in the cache."""
        if sequence.segment is None:
            self.waiting.remove(sequence)
        else:
            self._release(sequence)

    def reset(self) -> None:
        """Discard the running sequences and the cache, after a failure. Waiting sequences keep waiting."""
        self.prefilling, self.decoding = [], []
        self.tree = RadixTree()
        self.cache = KVCache(self.cache.geometry, self.cache.tail_capacity)
        self._batch = None

    @torch.inference_mode()
    def step(self) -> list[tuple[TokenSequence, TokenOutput]]:
        """Run one forward pass; return its outputs, at most one token per sequence."""
        self._admit()
        self._make_room()
        chunks = self._choose_chunks()
        if not chunks and not self.decoding:
            return []
        logits, sampled = self._compute(chunks)
        outputs: list[tuple[TokenSequence, TokenOutput]] = []
        for sequence, _ in chunks:
            if sequence.computed == len(sequence.tokens):
                if sequence.max_tokens:
                    self.prefilling.remove(sequence)
                    self._decode(sequence)
                else:
                    outputs.append((sequence, TokenOutput((), "", self._finish(sequence, "length", None))))
        if sampled:
            drawn = draw(logits, [(sequence.sampler, sequence.grammar) for sequence in sampled])
            self.totals.generated += len(drawn)
            for sequence, (token, logprobs) in zip(sampled, drawn, strict=True):
                outputs.append((sequence, self._accept(sequence, token, logprobs)))
        return outputs

    def _admit(self) -> None:
        """Start waiting sequences, in order, as long as they fit."""
        # Example: "P p1 p2 x1" and "P p1 p2 x2 y" arrive together while a planner, still decoding, has computed
        # "P p1 p2". Its tokens are inserted into the tree, so both sequences match them, and start now with one and two
        # own tokens. If nothing is cached instead, the first starts with four tokens and leads the second, which
        # waits until the leader has computed "P p1 p2" and then starts with two own tokens.
        inserted = False  # once a step at most
        for sequence in [*self.waiting]:
            if len(self.prefilling) + len(self.decoding) >= self._max_running:
                return
            leader = sequence.leader
            if leader is not None and leader in self.prefilling and leader.computed < sequence.awaited:
                continue
            sequence.leader = None
            if not inserted:
                for running in self.running:
                    self._insert_computed(running)
                inserted = True
            prefix = sequence.tokens[:-1]  # the last token is always computed, because its logits are needed
            node, length = self.tree.match(prefix)
            if self._awaits_leader(sequence, prefix, length):
                continue
            self.tree.pin(node)
            if not self._fits(len(sequence.tokens) - length):
                self.tree.unpin(node)
                return  # keep the order of arrival: no later sequence may take the memory that this one needs
            self.waiting.remove(sequence)
            self._start(sequence, node, length)

    def _awaits_leader(self, sequence: TokenSequence, prefix: list[int], length: int) -> bool:
        """Find a sequence that is about to compute more of ``prefix`` than the stored ``length`` tokens."""
        for other in self.prefilling:
            common = common_prefix(other.tokens, prefix)
            if common > length:
                sequence.leader, sequence.awaited, length = other, common, common
        return sequence.leader is not None

    def _fits(self, tokens: int) -> bool:
        """Evict what a sequence with ``tokens`` own tokens needs, if enough is unused. A lone sequence always fits."""
        # Example: a cache of 1000 tokens stores 960, of which 200 are not pinned, and 3 sequences run. A sequence with
        # 100 own tokens needs 60 freed tokens, plus a headroom of 16 for each of 4 sequences: 124 of the 200.
        running = len(self.prefilling) + len(self.decoding)
        unused = self.tree.tokens - self.tree.pinned_tokens
        needed = self.cache.tokens - self._cache_tokens + tokens
        if running and needed + _HEADROOM * (running + 1) > unused:
            return False
        self._evict(needed)
        return True

    def _start(self, sequence: TokenSequence, node: RadixNode[KVSegment], length: int) -> None:
        """Allocate memory for a sequence. It decodes at once if only its last token is not in the cache."""
        own = len(sequence.tokens) - length
        if sequence.cached_tokens is None:
            sequence.cached_tokens = length
            self.totals.prompt += sequence.prompt_tokens
            self.totals.cached += length
        self._admitted += 1
        sequence.order = self._admitted
        sequence.node = node
        sequence.computed = sequence.inserted = length
        segment, sequence.prefix = self._segment_to_extend(node)
        sequence.segment_start = length - (segment.body_length if segment else 0)
        at_once = own == 1 and sequence.max_tokens > 0
        sequence.segment = self.cache.allocate(0 if at_once else own, after=segment)
        if at_once:
            self._decode(sequence)
        else:
            self.prefilling.append(sequence)

    def _segment_to_extend(self, node: RadixNode[KVSegment]) -> tuple[KVSegment | None, RadixNode[KVSegment]]:
        """Find a short segment that ends at ``node`` and is not in use, and the node before which it begins.

        A sequence that starts there extends this segment instead of starting another. So a conversation of many short
        turns stays in few segments.
        """
        ranges = self.tree.ranges(node)
        if not ranges or node.children or node.pins > 1:
            return None, node
        segment, start, stop = ranges[-1]
        if start or stop < segment.body_length or stop > self.cache.tail_capacity:
            return None, node
        above = node
        while above.segment is segment and above.parent is not None:
            above = above.parent
        return segment, above

    def _decode(self, sequence: TokenSequence) -> None:
        """Give a sequence a row of the slab."""
        assert sequence.segment is not None
        self.cache.add_tail(sequence.segment)
        self.decoding.append(sequence)
        self._batch = None

    def _make_room(self) -> None:
        """Make room for one more token of every decoding sequence: evict, then preempt the latest admitted."""
        while (overflow := self.cache.tokens + len(self.decoding) - self._cache_tokens) > 0:
            self._evict(overflow)
            running = self.running
            if len(running) == 1 or self.cache.tokens + len(self.decoding) <= self._cache_tokens:
                break
            latest = max(running, key=lambda sequence: sequence.order)
            self._release(latest)
            self.waiting.appendleft(latest)
            self.totals.preempted += 1
        if self.cache.make_room():
            self._batch = None

    def _evict(self, tokens: int) -> None:
        if tokens > 0 and self.tree.tokens > self.tree.pinned_tokens:
            self.tree.evict(max(tokens, self._cache_tokens // _EVICTION))

    def _choose_chunks(self) -> list[tuple[TokenSequence, int]]:
        """Choose the prompts that the next step computes, and how many tokens of each."""
        left = self._prefill_chunk
        chunks: list[tuple[TokenSequence, int]] = []
        for sequence in self.prefilling:
            tokens = min(left, len(sequence.tokens) - sequence.computed)
            if tokens:
                chunks.append((sequence, tokens))
            left -= tokens
        return chunks

    def _compute(self, chunks: Sequence[tuple[TokenSequence, int]]) -> tuple[Tensor, list[TokenSequence]]:
        """Run the model; return the sequences that get a token now, and their logits."""
        decoding = self.decoding
        ids = [sequence.tokens[-1] for sequence in decoding]
        positions = [sequence.computed for sequence in decoding]
        wanted = [*range(len(decoding))]
        sampled = [*decoding]
        for sequence, tokens in chunks:
            done = sequence.computed
            ids += sequence.tokens[done : done + tokens]
            positions += range(done, done + tokens)
            if done + tokens == len(sequence.tokens) and sequence.max_tokens:
                wanted.append(len(ids) - 1)
                sampled.append(sequence)
        batch = self._batch if self._batch is not None and not chunks else self._make_batch(chunks)
        batch.advance()
        device = self.cache.geometry.device
        logits = self._model.forward(
            torch.tensor(ids, device=device),
            torch.tensor(positions, device=device),
            torch.tensor(wanted, dtype=torch.long, device=device) if chunks else None,
            batch,
        )
        self._batch = None if chunks else batch
        for sequence in decoding:
            assert sequence.segment is not None
            self.cache.count_token(sequence.segment)
            sequence.computed += 1
        for sequence, tokens in chunks:
            sequence.computed += tokens
            self.totals.computed += tokens
        return logits, sampled

    def _make_batch(self, chunks: Sequence[tuple[TokenSequence, int]]) -> ForwardBatch:
        """List what every query sees: its prefix and, if its sequence decodes, the body of that sequence's segment."""
        seen: list[list[SegmentRange[KVSegment]]] = []
        for sequence in self.decoding:
            assert sequence.segment is not None
            assert sequence.prefix is not None
            body = sequence.segment.body_length
            own = [SegmentRange(sequence.segment, 0, body)] if body else []
            seen.append(self.tree.ranges(sequence.prefix) + own)
        prefills: list[PrefillChunk] = []
        for sequence, tokens in chunks:
            assert sequence.segment is not None
            assert sequence.prefix is not None
            prefix = self.tree.ranges(sequence.prefix)
            done = sequence.computed - sequence.segment_start
            prefills.append(PrefillChunk(sequence.segment, prefix, done, tokens))
        return ForwardBatch(self.cache, seen, prefills)

    def _accept(self, sequence: TokenSequence, token: int, logprobs: tuple[TokenLogprob, ...]) -> TokenOutput:
        """Append a sampled token, and finish the sequence if it ends here."""
        sequence.tokens.append(token)
        if sequence.grammar is not None and token not in sequence.stop_ids:
            sequence.grammar.accept(token)
        text, stop = sequence.detokenizer.feed(token)
        finish: Finish | None = None
        if token in sequence.stop_ids:
            finish = self._finish(sequence, "stop", token)
        elif stop is not None:
            finish = self._finish(sequence, "stop", stop)
        elif len(sequence.tokens) >= sequence.length_limit:
            finish = self._finish(sequence, "length", None)
        if finish is not None:
            text += sequence.detokenizer.flush()
        return TokenOutput((token,), text, finish, logprobs)

    def _finish(self, sequence: TokenSequence, reason: Literal["stop", "length"], matched: int | str | None) -> Finish:
        self._release(sequence)
        assert sequence.cached_tokens is not None
        return Finish(reason, matched, sequence.prompt_tokens, sequence.cached_tokens)

    def _insert_computed(self, sequence: TokenSequence) -> None:
        """Insert into the tree what a running sequence has computed since the last call."""
        assert sequence.node is not None
        assert sequence.segment is not None
        if sequence.inserted < sequence.computed:
            new = sequence.tokens[sequence.inserted : sequence.computed]
            offset = sequence.inserted - sequence.segment_start
            sequence.node = self.tree.insert(sequence.node, new, sequence.segment, offset)
            sequence.inserted = sequence.computed

    def _release(self, sequence: TokenSequence) -> None:
        """Take the memory from a running sequence, except for the tokens that are in the tree."""
        self._insert_computed(sequence)
        segment, node = sequence.segment, sequence.node
        assert segment is not None
        assert node is not None
        if segment.row is None:
            self.prefilling.remove(sequence)
        else:
            row, last = self.cache.remove_tail(segment), self.decoding.pop()
            if last is not sequence:
                self.decoding[row] = last
        # Example: two sequences computed "A B C" at the same time, and the other one inserted "A B" first. The tree
        # has "A B" in the other's segment and only "C" in ours, from offset 2 to 3. We keep [(2, 3)], so that the
        # duplicate of "A B" is freed, and "C" moves to offset 0.
        kept = [part for part in reversed([*node.path()]) if part.segment is segment]
        self.cache.keep(segment, [(part.start, part.stop) for part in kept])
        start = 0
        for part in kept:
            part.start, start = start, start + len(part.tokens)
        self.tree.unpin(node)
        sequence.segment = sequence.node = sequence.prefix = None
        self._batch = None
