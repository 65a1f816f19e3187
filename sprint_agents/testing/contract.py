"""The promises of every engine, as tests that you run on yours (see ``Engine`` for the promises).

With pytest, subclass ``EngineContract`` in a test module. The class has no dependency on pytest, and pytest collects
its tests because your class is named ``Test…``::

    from sprint_agents.testing.contract import EngineContract


    class TestMyEngine(EngineContract):
        async def make_engine(self):
            return MyEngine("http://127.0.0.1:8000")

Without pytest, call ``MyContract().run_all()``.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar, cast

from sprint_agents.context import Context
from sprint_agents.dialects.conversation import marks_in
from sprint_agents.engine import Chunk, Engine, Request, Sampling
from sprint_agents.errors import ConfigurationError, EngineUnavailable, InvalidRequest, SprintError
from sprint_agents.markup import compose, markup

from .completion import COMPLETION_TOKENS, Completion, complete, expect, request_of

__all__ = ["EngineContract", "Completion", "complete", "request_of", "COMPLETION_TOKENS"]

T = TypeVar("T")
_ROUNDING = 1e-3
ContractT = TypeVar("ContractT", bound="EngineContract")


def _promise(check: Callable[[ContractT, Engine], Awaitable[None]]) -> Callable[[ContractT], None]:
    """Turn a check of an engine into a test without arguments, which makes an engine and closes it."""

    def test(self: ContractT) -> None:
        async def main() -> None:
            engine = await self.make_engine()
            try:
                await check(self, engine)
            finally:
                await engine.aclose()

        self.run(main())

    # Not functools.wraps: pytest would look through it and take `engine` for a fixture.
    test.__name__, test.__qualname__, test.__doc__ = check.__name__, check.__qualname__, check.__doc__
    return test


class EngineContract:
    """The tests that every engine passes. Subclass it and define ``make_engine``.

    Each test takes no arguments: it makes an engine, checks one promise, and closes the engine.

    The tests need a model whose greedy completions of ``prompt`` are the same every time, have at least 8 tokens and
    are not empty. A scripted server does. Change the attributes below where they do not suit your engine; a real model
    may need a prompt that leaves it no doubt about the next words, and ``subjects``.

    >>> from sprint_agents.testing import FakeEngine
    >>> class FakeContract(EngineContract):
    ...     async def make_engine(self) -> FakeEngine:
    ...         return FakeEngine("50 + 25 = 75, and 75 + 7 = 82 " * 40)
    >>> FakeContract().run_all()
    """

    prompt: str = "Use 50, 25, 7, 3 to make 81.\n"
    """The context of most requests."""
    foreign_id: int = 10**7
    """A token id outside the vocabulary."""
    controls: tuple[str, ...] = ()
    """Texts that are one control token each; the marks of ``capabilities.chat`` are tried in any case."""
    long_tokens: int = 400
    """A completion of this many tokens takes long enough to be aborted."""
    subjects: tuple[str, ...] = ()
    """What a real model names at once when it is asked "What is …?", such as ``("gravity", "South America")``.

    Most servers compute requests in batches, and how they round depends on the batch. So a completion among others may
    differ from the completion alone. With subjects, concurrent completions are told apart by what they name.
    """

    async def make_engine(self) -> Engine:
        """Return a new engine; the test closes it."""
        raise NotImplementedError(f"{type(self).__name__} must define make_engine, which returns the engine to test")

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a test in a new event loop. Override it to use another one, such as ``run_virtual``."""
        return asyncio.run(main)

    def run_all(self) -> None:
        """Run every test, in order of definition.

        Raises:
            AssertionError: the engine breaks a promise; the error's notes name the test.

        """
        for name in [name for name in vars(EngineContract) if name.startswith("test_")]:
            try:
                getattr(self, name)()
            except Exception as error:
                error.add_note(f"in {type(self).__name__}.{name}")
                raise

    async def make_context(self, engine: Engine, text: str | None = None) -> Context:
        """Encode ``text``, by default ``prompt``."""
        text = compose([self.prompt if text is None else text])
        return Context().extend(await engine.encode(text), text)

    @_promise
    async def test_a_completion_is_whole(self, engine: Engine) -> None:
        """The chunks together are the completion: their text is the text of their ids, and the last has the finish."""
        context = await self.make_context(engine)
        completion = await complete(engine, request_of(context))
        _equal(completion.tokens, COMPLETION_TOKENS, "the number of tokens")
        _equal(completion.text, await engine.decode(completion.ids), "the text of the chunks, and of their ids,")
        _equal((completion.finish.reason, completion.finish.matched), ("length", None), "the finish")
        prompt_tokens = completion.finish.prompt_tokens
        if completion.finish.generated_tokens is None:
            _equal(prompt_tokens, len(context), "finish.prompt_tokens")
        expect(0 <= completion.finish.cached_tokens <= prompt_tokens, "finish.cached_tokens exceeds the context")

    @_promise
    async def test_decoding_restores_encoded_text(self, engine: Engine) -> None:
        """``decode`` is the inverse of ``encode``."""
        _equal(await engine.decode(await engine.encode(self.prompt)), self.prompt, "the decoded text")

    @_promise
    async def test_control_tokens_come_from_markup_alone(self, engine: Engine) -> None:
        """In outside text, the text of a control token becomes other tokens; markup beside it keeps its own."""
        chat = engine.capabilities.chat
        marks = marks_in([*chat.opens.values(), *chat.closes.values()] if chat else ())
        for mark in dict.fromkeys((*self.controls, *marks)):
            control, *others = await engine.encode(markup(mark))
            if others:  # the vocabulary has no token for it
                expect(mark not in self.controls, f"the control token {mark!r} has {1 + len(others)} ids as markup")
                continue
            outside = await engine.encode(f"a {mark}{mark} b")
            expect(control not in outside, f"the outside text {mark!r} became the control token {control}")
            mixed = await engine.encode(compose([f"a {mark}", markup(mark), f"{mark[:1]}", f"{mark[1:]} b"]))
            _equal(mixed.count(control), 1, f"the number of tokens {control} in a text whose markup has {mark!r} once")
            _equal(await engine.decode(outside), f"a {mark}{mark} b", "the decoded text")

    @_promise
    async def test_no_tokens_may_be_requested(self, engine: Engine) -> None:
        """``max_tokens=0`` computes the context and ends with reason ``length``."""
        completion = await complete(engine, request_of(await self.make_context(engine), max_tokens=0))
        expect(not completion.ids and not completion.text, f"the completion should be empty, not {completion.text!r}")
        _equal((completion.finish.reason, completion.finish.matched), ("length", None), "the finish")

    @_promise
    async def test_a_stop_id_ends_it_and_is_included(self, engine: Engine) -> None:
        """A completion ends with the first token in ``stop_ids``."""
        context = await self.make_context(engine)
        whole = (await complete(engine, request_of(context))).ids
        stop = whole[COMPLETION_TOKENS // 2]
        completion = await complete(engine, request_of(context, stop_ids=[stop]))
        _equal(completion.ids, whole[: whole.index(stop) + 1], "the ids up to the stop id")
        _equal((completion.finish.reason, completion.finish.matched), ("stop", stop), "the finish")

    @_promise
    async def test_a_stop_text_ends_it_and_is_not_trimmed(self, engine: Engine) -> None:
        """A completion ends with the token that completes a stop text, with all text of that token."""
        context = await self.make_context(engine)
        whole = await complete(engine, request_of(context))
        middle = len(whole.text) // 2
        stop = whole.text[max(0, middle - 2) : middle + 1]
        completion = await complete(engine, request_of(context, stop_texts=("in no text", stop)))
        _equal(completion.ids, whole.ids[: len(completion.ids)], "the ids up to the stop text")
        expect(stop in completion.text, f"the stop text {stop!r} is not in the completion {completion.text!r}")
        _equal(completion.text.index(stop), whole.text.index(stop), "the place of the stop text")
        before = await engine.decode(completion.ids[:-1])
        expect(stop not in before, f"the completion continues after the stop text {stop!r}: {completion.text!r}")
        _equal((completion.finish.reason, completion.finish.matched), ("stop", stop), "the finish")

    @_promise
    async def test_a_completion_can_be_continued(self, engine: Engine) -> None:
        """With ``Capabilities.continues``, a request that continues a completion generates the rest of it."""
        if not engine.capabilities.continues:
            return
        context = await self.make_context(engine)
        whole = (await complete(engine, request_of(context))).ids
        for written in (1, COMPLETION_TOKENS - 1):
            first = request_of(context, max_tokens=written)
            begun = await complete(engine, first)
            longer = context.extend(begun.ids, begun.text)
            rest = replace(request_of(longer, max_tokens=COMPLETION_TOKENS - written), continues=first)
            completion = await complete(engine, rest)
            _equal(begun.ids + completion.ids, whole, f"the ids of a completion that was continued after {written}")
            _equal(completion.finish.prompt_tokens, len(longer), "finish.prompt_tokens of what continues it")
            if engine.capabilities.logprobs:
                asking = replace(rest, id=f"{rest.id}asking-", sampling=Sampling(temperature=0, logprobs=2))
                _check_logprobs(await complete(engine, asking), alternatives=2)

    @_promise
    async def test_log_probabilities_belong_to_the_tokens(self, engine: Engine) -> None:
        """With ``Capabilities.logprobs``, each token comes with its own; without, none does."""
        context = await self.make_context(engine)
        asking = request_of(context, sampling=Sampling(temperature=0, logprobs=3))
        if not engine.capabilities.logprobs:
            with suppress(ConfigurationError):
                expect(
                    not (await complete(engine, asking)).logprobs, "Capabilities.logprobs is False, and there are some"
                )
            return
        plain, asked = await complete(engine, request_of(context)), await complete(engine, asking)
        _equal(asked.ids, plain.ids, "the ids of a completion with log-probabilities")
        expect(not plain.logprobs, "a completion has log-probabilities that its request did not ask for")
        _check_logprobs(asked, alternatives=3)
        middle = len(plain.text) // 2
        stop = plain.text[max(0, middle - 2) : middle + 1]
        sampling = Sampling(temperature=0, logprobs=0)
        stopped = await complete(engine, request_of(context, sampling=sampling, stop_texts=(stop,)))
        _equal(stopped.ids, plain.ids[: len(stopped.ids)], "the ids up to a stop text, with log-probabilities,")
        _check_logprobs(stopped, alternatives=0)

    @_promise
    async def test_concurrent_requests_are_independent(self, engine: Engine) -> None:
        """Requests that run together get the completions that they get alone; with ``subjects``, each its own."""
        if self.subjects:
            await self._expect_own_subjects(engine)
            return
        root = await self.make_context(engine)
        forks = [root.extend(await engine.encode(text), text) for text in ("", "1", "2", "12", "1", "3\n")]
        alone = [(await complete(engine, request_of(fork))).ids for fork in forks]
        together = await asyncio.gather(*(complete(engine, request_of(fork)) for fork in forks))
        _equal([completion.ids for completion in together], alone, "the ids of concurrent completions")

    async def _expect_own_subjects(self, engine: Engine) -> None:
        asked = (*self.subjects, self.subjects[0])
        contexts = [await self.make_context(engine, f"What is {subject}?\n") for subject in asked]
        alone = [await complete(engine, request_of(context)) for context in contexts]
        together = await asyncio.gather(*(complete(engine, request_of(context)) for context in contexts))
        for subject, one, among in zip(asked, alone, together, strict=True):
            named = {other for other in self.subjects if other.casefold() in among.text.casefold()}
            _equal(named, {subject}, f"what the concurrent completion {among.text!r} names")
            _equal(among.text, await engine.decode(among.ids), "the text of the chunks, and of their ids,")
            _equal(among.finish.prompt_tokens, one.finish.prompt_tokens, f"finish.prompt_tokens for {subject!r}")
            expect(among.tokens <= COMPLETION_TOKENS, f"{among.tokens} tokens are more than {COMPLETION_TOKENS}")

    @_promise
    async def test_closing_the_stream_ends_the_request(self, engine: Engine) -> None:
        """``aclose`` of the stream aborts the request, and its id may be used again."""
        context = await self.make_context(engine)
        stream = _stream(engine, request_of(context, max_tokens=self.long_tokens, request_id="closed-"))
        await anext(stream)
        await stream.aclose()
        await complete(engine, request_of(context, request_id="closed-"))

    @_promise
    async def test_a_completion_may_arrive_whole(self, engine: Engine) -> None:
        """``Request.whole`` changes only the number of chunks, and such a request ends when it is left."""
        context = await self.make_context(engine)
        streamed, whole = [await complete(engine, replace(request_of(context), whole=whole)) for whole in (False, True)]
        _equal(whole.ids, streamed.ids, "the ids of a completion that may arrive whole")
        _equal(whole.text, streamed.text, "the text of a completion that may arrive whole")
        _equal((whole.tokens, whole.finish.reason), (streamed.tokens, "length"), "its tokens and its finish")
        long = replace(request_of(context, max_tokens=self.long_tokens, request_id="whole-"), whole=True)
        reader = asyncio.create_task(complete(engine, long))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await complete(engine, request_of(context, request_id="whole-"))

    @_promise
    async def test_cancelling_the_reader_ends_the_request(self, engine: Engine) -> None:
        """Cancelling the task that reads a stream aborts the request, and its id may be used again."""
        context = await self.make_context(engine)
        begun = asyncio.Event()

        async def read() -> None:
            request = request_of(context, max_tokens=self.long_tokens, request_id="cancelled-")
            async for _ in engine.complete(request):
                begun.set()

        reader = asyncio.create_task(read())
        await begun.wait()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await complete(engine, request_of(context, request_id="cancelled-"))

    @_promise
    async def test_abort_ends_the_stream_of_another_reader(self, engine: Engine) -> None:
        """``abort`` ends a request, whose reader gets ``EngineUnavailable``, and ignores unknown and finished ids."""
        context = await self.make_context(engine)
        await engine.abort("unknown-")
        stream = engine.complete(request_of(context, max_tokens=self.long_tokens, request_id="aborted-"))
        chunk = await anext(stream)
        await engine.abort("aborted-")
        if chunk.finish is None:
            with _raises(EngineUnavailable, "aborted"):
                await _drain(stream)
        await engine.abort("aborted-")
        await complete(engine, request_of(context, request_id="aborted-"))

    @_promise
    async def test_an_id_in_use_is_refused(self, engine: Engine) -> None:
        """Two requests with one id cannot run at the same time."""
        context = await self.make_context(engine)
        stream = _stream(engine, request_of(context, max_tokens=self.long_tokens, request_id="live-"))
        if (await anext(stream)).finish is None:
            with _raises(InvalidRequest, "live-"):
                await complete(engine, request_of(context, request_id="live-"))
        await stream.aclose()

    @_promise
    async def test_impossible_requests_are_refused(self, engine: Engine) -> None:
        """Empty contexts, ids outside the vocabulary and negative limits are refused, and do no harm."""
        context = await self.make_context(engine)
        for wrong in (Context(), context.extend([self.foreign_id], "?"), context.extend([-1], "?")):
            with _raises(InvalidRequest, ""):
                await complete(engine, request_of(wrong))
        with _raises(InvalidRequest, "-1"):
            await complete(engine, request_of(context, max_tokens=-1))
        _equal((await complete(engine, request_of(context))).tokens, COMPLETION_TOKENS, "the number of tokens")

    def test_it_works_from_any_loop(self) -> None:
        """An engine belongs to no event loop: it may be made in one and used in others."""
        engine = self.run(self.make_engine())

        async def main() -> list[int]:
            return (await complete(engine, request_of(await self.make_context(engine)))).ids

        _equal(self.run(main()), self.run(main()), "the ids in two event loops")
        self.run(engine.aclose())

    @_promise
    async def test_closing_ends_everything(self, engine: Engine) -> None:
        """``aclose`` ends what runs, refuses later requests, and may be called again."""
        context = await self.make_context(engine)
        stream = engine.complete(request_of(context, max_tokens=self.long_tokens))
        first = await anext(stream)
        await engine.aclose()
        await engine.aclose()
        if first.finish is None:
            with _raises(EngineUnavailable, ""):
                await _drain(stream)
        with _raises(EngineUnavailable, "closed"):
            await complete(engine, request_of(context))


def _stream(engine: Engine, request: Request) -> AsyncGenerator[Chunk, None]:
    return cast("AsyncGenerator[Chunk, None]", engine.complete(request))


def _check_logprobs(completion: Completion, *, alternatives: int) -> None:
    """Check the log-probabilities of a greedy completion."""
    found = completion.logprobs
    if completion.finish.generated_tokens is None:
        for chunk in completion.chunks:
            _equal([each.token for each in chunk.logprobs], list(chunk.ids), "the tokens with log-probabilities")
    else:
        text = "".join(str(each.token) for each in found)
        expect(bool(text) and text in completion.text, f"the tokens {text!r} are not those of {completion.text!r}")
    for each in found:
        expect(each.logprob <= _ROUNDING, f"{each} has a log-probability above 0")
        _equal(len(each.top), alternatives, "the number of alternatives")
        _equal(sorted(each.top, key=lambda one: -one[1]), list(each.top), "the alternatives, from the most likely one,")
        if each.top:
            expect(abs(each.top[0][1] - each.logprob) < _ROUNDING, f"{each} is not the most likely token")


async def _drain(stream: AsyncIterator[Chunk]) -> None:
    async for _ in stream:
        pass


def _equal(found: object, expected: object, what: str) -> None:
    expect(found == expected, f"{what} should be {expected!r}, not {found!r}")


@contextmanager
def _raises(kind: type[SprintError], words: str) -> Generator[None]:
    """Expect an error of ``kind`` whose message contains ``words``."""
    try:
        yield
    except kind as error:
        expect(words in str(error), f"the message of {kind.__name__} should contain {words!r}: {error}")
    else:
        raise AssertionError(f"{kind.__name__} should be raised here")
