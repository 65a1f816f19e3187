"""One completion: its chunks, the positions where its tokens end, and the context at any of its characters."""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

from .context import Context
from .continuation import Continuation
from .engine import THOUGHTS, Chunk, Engine, Finish, Thoughts, TokenLogprob
from .errors import EngineError, EngineProtocolError


class Generation:
    """A completion: an async context manager and an async iterator over its chunks.

    ``finished`` receives the extended context once the last chunk is read. ``cut`` returns the context at any character
    of the text so far, so a branch can start before the completion ends. A ``continuation`` is the source of ``chunks``
    if the completion may take several requests; ``finish`` is then that of the last one.

    ``logprobs`` are those of the tokens so far, if the request asked for them. ``watch`` receives them as they arrive,
    before the last chunk; what it raises ends the completion. ``begun`` is called with the first chunk.
    """

    __slots__ = (
        "_chunks",
        "_continuation",
        "_cut_ids",
        "_cut_text",
        "_ended",
        "_engine",
        "_finished",
        "_index",
        "_missed",
        "_read",
        "_reasoning",
        "_request_ids",
        "_tip",
        "_tokens",
        "begun",
        "finish",
        "ids",
        "length",
        "logprobs",
        "watch",
    )

    def __init__(
        self,
        engine: Engine,
        context: Context,
        chunks: AsyncIterator[Chunk],
        *,
        finished: Callable[[Context], object],
        request_ids: Sequence[str] = (),
        continuation: Continuation | None = None,
    ) -> None:
        self._engine = engine
        self._request_ids = request_ids
        self._continuation = continuation
        self._chunks = chunks
        self._finished = finished
        self._ended = False
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.watch: Callable[[Sequence[TokenLogprob]], object] | None = None
        self.begun: Callable[[], object] | None = None
        self.finish: Finish | None = None
        # The engine's own count, for engines whose ids are not tokens.
        self._tokens: int | None = None
        self._missed: list[int] = []
        self._reasoning = 0
        self._read: list[Chunk] = []
        self.length = 0
        # Made on use, since many completions never need it.
        self._index: _Index | None = None
        # The context of the last cut, which later cuts and the end extend: n cuts cost O(tokens), not O(n * tokens).
        self._tip = context
        self._cut_ids = 0
        self._cut_text = 0

    @property
    def chunks(self) -> Sequence[Chunk]:
        """The chunks so far."""
        return self._read

    @property
    def text(self) -> str:
        """The text so far, the stop included."""
        return "".join([chunk.text for chunk in self._read])

    @property
    def tokens(self) -> int:
        """The number of generated tokens so far; where ids are not tokens, an estimate until the end."""
        return len(self.ids) + sum(self._missed) if self._tokens is None else self._tokens

    @property
    def missed(self) -> Callable[[int], object]:
        """Counts tokens of an interrupted completion that did not arrive; it keeps nothing else of the completion."""
        return self._missed.append

    def reasoning_tokens(self, thoughts: Thoughts = "none") -> int:
        """Count the tokens of reasoning so far: as the server does, or else those up to the end of the thoughts.

        ``thoughts`` says whether the text may begin with them. Reasoning that is not part of the text is counted by the
        chunks that bring it.
        """
        if self.finish is not None and self.finish.reasoning_tokens is not None:
            return self.finish.reasoning_tokens
        if thoughts == "none":
            return self._reasoning
        text = self.text
        end = text.find(THOUGHTS[1])
        if end >= 0:
            return self._reasoning + self.tokens_before(end + len(THOUGHTS[1]))
        begun = thoughts == "open" or text.lstrip().startswith(THOUGHTS[0])
        return self.tokens if begun else self._reasoning

    @property
    def request_ids(self) -> Sequence[str]:
        """The ids of the requests so far: one, unless the completion was continued; none if it is read again."""
        return self._request_ids if self._continuation is None else self._continuation.request_ids

    @property
    def prompt_tokens(self) -> int:
        """The context lengths of the requests that have ended, added up."""
        if self._continuation is not None:
            return self._continuation.prompt_tokens
        return 0 if self.finish is None else self.finish.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        """How many of the ``prompt_tokens`` were read from the cache."""
        if self._continuation is not None:
            return self._continuation.cached_tokens
        return 0 if self.finish is None else self.finish.cached_tokens

    @property
    def retries(self) -> int:
        """How many requests the engine had to send again, once the completion has finished."""
        return 0 if self.finish is None else self.finish.retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing the engine's iterator aborts an unfinished request.
        if not self._ended:
            await self._chunks.aclose()  # type: ignore[attr-defined]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end()
            raise
        self._take(chunk)
        return chunk

    async def drain(self, heard: Callable[[Chunk], object] | None = None) -> None:
        """Read the completion to its end; ``heard`` receives each chunk."""
        async for chunk in self._chunks:
            self._take(chunk)
            if heard is not None:
                heard(chunk)
        self._end()

    def _take(self, chunk: Chunk) -> None:
        if self.begun is not None:
            self.begun()
            self.begun = None
        self._read.append(chunk)
        self.ids.extend(chunk.ids)
        self.length += len(chunk.text)
        if self._index is not None:
            self._index.add(self.length, len(self.ids))
        if chunk.tokens is not None:
            self._tokens = (self._tokens or 0) + chunk.tokens
        if chunk.reasoning:
            self._reasoning += len(chunk.ids) if chunk.tokens is None else chunk.tokens
        if chunk.logprobs:
            self.logprobs += chunk.logprobs
            if self.watch is not None and chunk.finish is None:
                self.watch(chunk.logprobs)
        if (finish := chunk.finish) is not None:
            self.finish = finish
            if finish.generated_tokens is not None:
                self._tokens = finish.generated_tokens
            if self._cut_ids or self._cut_text:
                rest = self._slice(self._cut_text, self.length)
                self._finished(self._tip.extend(self.ids[self._cut_ids :], rest))
            else:
                self._finished(self._tip.extend(self.ids, self.text))

    def _end(self) -> None:
        self._ended = True
        if self.finish is None:
            raise EngineProtocolError(
                f"{self._engine.name} ended a completion without a Finish: the last chunk of an engine must have one"
            )

    async def tokens_between(self, start: int, end: int, *, known: dict[str, Sequence[int]]) -> int:
        """Count the tokens from ``start`` to ``end``, exactly where ids are tokens, in chunks of any size.

        ``known`` remembers the tokens of the texts before and after, which are the same in many completions.
        """
        if len(self._read) == 1 and self._tokens is None:
            text, ids = self._read[0].text, self.ids
            if len(ids) == len(text):  # a token for each character
                return end - start
            before, after = known.get(text[:start]), known.get(text[end:])
            if before and after and ids[: len(before)] == before and ids[-len(after) :] == after:
                return len(ids) - len(before) - len(after)
        for offset in (start, end):
            await self._locate(offset, known)
        return self.tokens_before(end) - (self.tokens_before(start) if start else 0)

    async def _locate(self, offset: int, known: dict[str, Sequence[int]]) -> None:
        """Find the token at ``offset``, so that ``tokens_before`` is exact there.

        A chunk of several tokens says only where its last one ends. The tokens from the nearer end of the chunk are
        decoded one by one: few, since a completion ends with a tag or begins with a key. The count stays pro rata if
        the engine cannot decode, or if a character has several tokens.
        """
        # Example, for the end of the result in `{"result": 42}`, at 13 of 14: "}" ends at 14 and begins at 13.
        index = self._index or self._make_index()
        mark = bisect_left(index.texts, offset)
        if self._tokens is not None or index.texts[mark] == offset:
            return
        text_start, ids_start = index.texts[mark - 1], index.ids[mark - 1]
        text, ids = self._slice(text_start, index.texts[mark]), self.ids[ids_start : index.ids[mark]]
        if len(ids) in (1, len(text)):
            return
        wanted = offset - text_start
        backwards = 2 * wanted > len(text)
        edge = text[wanted:] if backwards else text[:wanted]
        if (tokens := known.get(edge)) and tokens == (ids[-len(tokens) :] if backwards else ids[: len(tokens)]):
            index.texts.insert(mark, offset)
            index.ids.insert(mark, ids_start + (len(ids) - len(tokens) if backwards else len(tokens)))
            return
        place = len(text) if backwards else 0
        for number in range(len(ids) - 1, -1, -1) if backwards else range(len(ids)):
            try:
                piece = await self._engine.decode([ids[number]])
            except EngineError:
                return
            found = _beside(text, place, piece, backwards=backwards)
            if found is None:
                return
            begin, end = found
            if begin <= wanted <= end:
                marks = {text_start + begin: ids_start + number, text_start + end: ids_start + number + 1}
                index.texts[mark:mark] = marks
                index.ids[mark:mark] = marks.values()
                if wanted == (begin if backwards else end):
                    known[edge] = ids[number:] if backwards else ids[: number + 1]
                return
            place = begin if backwards else end

    def tokens_before(self, offset: int) -> int:
        """Count the tokens of the first ``offset`` characters, pro rata within a chunk of several tokens.

        Where ids are not tokens, this is a pro rata part of ``tokens``. Hidden reasoning counts as written first.
        """
        if offset == self.length and self._read and self._read[-1].text:
            before = len(self.ids)
        else:
            index = self._index or self._make_index()
            mark = bisect_left(index.texts, offset)
            text_end, before = index.texts[mark], index.ids[mark]
            if text_end != offset and mark:
                text_start, start = index.texts[mark - 1], index.ids[mark - 1]
                before = start + round((before - start) * (offset - text_start) / (text_end - text_start))
        if self._tokens is None:
            return before
        return round(self._tokens * before / len(self.ids)) if self.ids else self._tokens

    async def cut(self, offset: int) -> Context:
        """Return the context up to ``offset`` characters of the text; each offset must be at least the last one.

        Where a token crosses the offset, the context ends before that token, and the characters from there to the
        offset are encoded again. Only the cut has these new ids, never the planner's own context.
        """
        # Example: a prompt closes with "</prompt_1.1>", and the tokenizer has one token for ">\n":
        #
        #   ids    … 41 "</prompt_"   42 "1.1"   43 ">\n"   44 "<prompt_"
        #                                           ^ offset, inside token 43
        #
        # The executor must not see the newline, so its context is the planner's ids up to 42, then encode(">"). The
        # planner's own context keeps 43. Its cache still serves all of the cut but the one new token.
        text_end, ids_end = await self._boundary(offset)
        self._advance(ids_end, text_end)
        if text_end == offset:
            return self._tip
        rest = self._slice(text_end, offset)
        return self._tip.extend(await self._engine.encode(rest), rest)

    async def _boundary(self, offset: int) -> tuple[int, int]:
        """Return the last token boundary at or before ``offset``, as positions in the text and in the ids."""
        index = self._index or self._make_index()
        mark = bisect_left(index.texts, offset)
        text_end, ids_end = index.texts[mark], index.ids[mark]
        if text_end == offset:
            return text_end, ids_end
        # The offset is inside a chunk of several tokens, or inside a token. Guess pro rata how many ids reach it, and
        # decode those. Then step away from the guess, by 1, 2, 4, … ids, and bisect when the offset is enclosed.
        text_start, ids_start = index.texts[mark - 1], index.ids[mark - 1]
        wanted, low, found, step = offset - text_start, 0, 0, 1
        high = ids_end - ids_start
        count = min(max(1, high * wanted // (text_end - text_start)), high - 1)
        while high - low > 1:
            reached = len(await self._engine.decode(self.ids[ids_start : ids_start + count]))
            if reached <= wanted:
                low, found = count, reached
                if reached == wanted:
                    break
                count = low + step
            else:
                high = count
                count = high - step
            step *= 2
            if not low < count < high:
                count = (low + high) // 2
        if low:
            index.texts.insert(mark, text_start + found)
            index.ids.insert(mark, ids_start + low)
        return text_start + found, ids_start + low

    def _advance(self, ids_end: int, text_end: int) -> None:
        if ids_end > self._cut_ids:
            text = self._slice(self._cut_text, text_end)
            self._tip = self._tip.extend(self.ids[self._cut_ids : ids_end], text)
            self._cut_ids, self._cut_text = ids_end, text_end

    def _slice(self, start: int, end: int) -> str:
        """Return characters ``start`` to ``end``, reading only the chunks that hold them."""
        ends = (self._index or self._make_index()).chunks
        first = bisect_left(ends, start + 1) - 1
        last = bisect_left(ends, end)
        base = ends[first]
        return "".join([chunk.text for chunk in self._read[first:last]])[start - base : end - base]

    def _make_index(self) -> "_Index":
        self._index = index = _Index()
        text = ids = 0
        for chunk in self._read:
            text, ids = text + len(chunk.text), ids + len(chunk.ids)
            index.add(text, ids)
        return index


class _Index:
    """Where the ``chunks`` of a completion end, and its token boundaries, as positions in its ``texts`` and ``ids``."""

    __slots__ = ("chunks", "ids", "texts")

    def __init__(self) -> None:
        self.chunks, self.texts, self.ids = [0], [0], [0]

    def add(self, text: int, ids: int) -> None:
        """Add a chunk up to these positions."""
        self.chunks.append(text)
        self.texts.append(text)
        self.ids.append(ids)


def _beside(text: str, place: int, piece: str, *, backwards: bool) -> tuple[int, int] | None:
    """Return where a token begins and ends that is next to ``place``; None if it is not there.

    Some decoders drop a space at the beginning of what they decode: of this token, or of the one after it.
    """
    if backwards:
        for end in (place, place - 1):
            if text.endswith(piece, 0, end) and text[end:place] in ("", " "):
                return end - len(piece), end
        return None
    for begin in (place, place + 1):
        if text.startswith(piece, begin) and text[place:begin] in ("", " "):
            return place, begin + len(piece)
    return None
