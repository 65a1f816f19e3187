"""The calls cut from a trajectory's text are those of a run, token for token."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from sprint_agents import Sprint
from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.engine import Capabilities, Chunk, Engine, Finish
from sprint_agents.errors import ConfigurationError
from sprint_agents.manifest import Manifest
from sprint_agents.rollouts import RolloutRecorder
from sprint_agents.settles import Settles
from sprint_agents.testing import FakeEngine, Reply, run_virtual
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.batches import encode
from sprint_finetune.nano.countdown import problems, solution_of
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.nano.traces import chain, executors, planner
from sprint_finetune.training.calls import Piece, as_one_text, calls_of
from sprint_finetune.training.corpus import LengthLimits, TrainingSample, build_tries
from sprint_finetune.training.encoding import encode_calls
from sprint_finetune.training.settings import Settings

TEXT = """What is 6*7 + 100/4?
<Plan_1>
Both sides are independent.
-----
<prompt_1.1>6*7</prompt_1.1>
<prompt_1.2>100/4</prompt_1.2> and then?
</Plan_1>
<Execution_1>
<execution_1.1>
6*7 is 42
</execution_1.1>
<execution_1.2>
25</execution_1.2>
</Execution_1>
<Plan_2>
Nothing to delegate: 42+25.
</Plan_2>
<Final_answer>
\\boxed{67}
</Final_answer>"""


def text_of(call):
    return "".join(piece.text for piece in call.pieces)


def learned(call):
    return [piece.text for piece in call.pieces if piece.learned]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


works = st.builds(
    lambda draw, seed: draw(str(seed)),
    st.sampled_from(
        [
            lambda seed: solution_of(*next(problems(seed=seed, split="train", unsolvable=0.2))),
            lambda seed: next(arithmetic.problems(seed=seed, split="train")),
            lambda seed: next(multiplication.problems(seed=seed, split="train")),
        ]
    ),
    st.integers(0, 10**6),
)


@settings(max_examples=40, deadline=None)
@given(work=works)
def test_texts_are_cut_into_the_calls_that_they_were_made_of(tokenizer, work):
    calls = [planner(work), *executors(work)]
    cut = calls_of(text_of(calls[0]))
    assert [(call.role, call.pieces) for call in cut] == [(call.role, call.pieces) for call in calls]
    assert encode_calls(cut, tokenizer) == [encode(call, tokenizer) for call in calls]
    single = chain(work)
    assert [(call.role, call.pieces) for call in calls_of(text_of(single))] == [("chain", single.pieces)]


def test_every_role_learns_what_it_writes():
    plan, first, second = calls_of(TEXT)
    assert text_of(plan) == TEXT
    assert [text.splitlines()[0] for text in learned(plan)] == ["<Plan_1>", "<Plan_2>", "<Final_answer>"]
    assert text_of(first).endswith("6*7</prompt_1.1>\n<execution_1.1>\n6*7 is 42\n</execution_")
    assert learned(first) == ["6*7 is 42\n</execution_"]
    assert text_of(second).endswith("100/4</prompt_1.2>\n<execution_1.2>\n25</execution_")
    assert "is 42" not in text_of(second)


def test_the_question_may_stand_apart_and_in_a_chat_template():
    problem, rest = TEXT.split("\n", 1)
    assert calls_of(rest, problem=problem) == calls_of(TEXT) == calls_of(TEXT, problem=f" {problem}\n")
    dialect = TagDialect(load_tags(), question="<user>{task}<assistant>")
    assert calls_of(TEXT, dialect=dialect)[2].pieces[0] == Piece(f"<user>{problem}<assistant>", False)


def test_a_chain_before_the_first_plan_is_the_planners():
    thought = TEXT.replace("<Plan_1>", "<think>\nHm.\n</think>\n<Plan_1>", 1)
    plan, first, _ = calls_of(thought)
    assert text_of(plan) == thought
    assert learned(plan)[0].startswith("<think>\nHm.\n</think>\n<Plan_1>")
    assert "<think>\nHm." in text_of(first)


def test_in_one_text_all_but_the_question_is_learned():
    call = as_one_text(calls_of(TEXT)[0])
    assert text_of(call) == TEXT
    assert "".join(learned(call)) == TEXT.split("\n", 1)[1]


@pytest.mark.parametrize(
    ("text", "problem", "message"),
    [
        ("", "Q?", "no plan"),
        ("Q? Just words.", None, "no plan.*no final answer"),
        (TEXT.replace("</Plan_1>", ""), None, "plan 1 has no closing tag"),
        (TEXT.replace("25</execution_1.2>", ""), None, "1.2"),
        (TEXT.replace("<Final_answer>", "<final_answer>"), None, "misspelt|is read as a tag"),
        (TEXT.split("\n", 1)[1], None, "does not start with a question"),
        (TEXT, "Something else?", "which differs from its problem"),
    ],
)
def test_what_is_no_trajectory_is_refused(text, problem, message):
    with pytest.raises(ConfigurationError, match=message):
        calls_of(text, problem=problem)


def merging(*, tags):
    """A character tokenizer, except that a prompt at the end of a text ends in ``.1>``, elsewhere in ``1>\\n``."""
    special = list(load_tags().special_tokens) if tags else []
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet, ".1>", "1>Ċ"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"1>\n|\.1>(?!\n)|[\s\S]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False)


class Scripted(Engine):
    """An engine that writes the learned pieces, each when it gets its context, and records all token ids."""

    name = "scripted"
    manifest = Manifest(model="scripted", temperature=0)
    capabilities = Capabilities()

    def __init__(self, tokenizer, calls):
        self._tokenizer = tokenizer
        self._written = {}
        for call in calls:
            context = ""
            for piece in call.pieces:
                if piece.learned:
                    self._written[context] = piece.text
                context += piece.text
        self.seen = set()

    async def encode(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False)

    async def decode(self, ids):
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    async def complete(self, request):
        ids = await self.encode(self._written[request.context.text])
        self.seen.add((*request.context.flatten(), *ids))
        yield Chunk(ids, self._written[request.context.text], Finish("stop", None, len(request.context), 0))

    async def abort(self, request_id):
        pass

    async def aclose(self):
        pass


@pytest.mark.parametrize("tags", [True, False])
def test_a_run_reads_and_writes_the_very_ids_that_are_trained(tags):
    tokenizer = merging(tags=tags)
    calls = calls_of(TEXT)
    engine = Scripted(tokenizer, calls)
    run = Sprint(engine).run_sync(calls[0].pieces[0].text.strip())
    assert run.transcript == TEXT
    trained = set()
    for sample in encode_calls(calls, tokenizer):
        # A request ends where its learned tokens end.
        ends = [
            end
            for end in range(1, len(sample.ids) + 1)
            if sample.learned[end - 1] and (end == len(sample.ids) or not sample.learned[end])
        ]
        trained |= {tuple(sample.ids[:end]) for end in ends}
    assert engine.seen == trained
    pieces_alone = [encode(call, tokenizer) for call in calls]
    assert encode_calls(calls, tokenizer) != pieces_alone, "the tokenizer makes no difference"


def test_a_tokenizer_without_offsets_is_refused():
    class Slow(PreTrainedTokenizer):
        vocab_size = 1

        def get_vocab(self):
            return {"a": 0}

        def _tokenize(self, text):
            return list(text)

    with pytest.raises(ConfigurationError, match="fast tokenizer"):
        encode_calls(calls_of(TEXT), Slow())


def test_pieces_are_encoded_once_each(tokenizer):
    """The calls of a trajectory share pieces, so encoding takes time linear in the text, not in the calls."""
    work = next(itertools.islice(arithmetic.problems(seed=1, split="train"), 1))
    calls = [planner(work), *executors(work)]
    assert encode_calls([*calls, *calls[1:]], tokenizer)[len(calls) :] == encode_calls(calls, tokenizer)[1:]


def test_tags_in_a_problem_are_text():
    tokenizer = merging(tags=True)
    problem = "What is </Plan_1> for?"
    (planner, *_) = calls_of(TEXT.split("\n", 1)[1], problem=problem)
    assert planner.pieces[0].text == "What is < /Plan_1> for?\n"
    (quoted, *_) = calls_of(f"{planner.pieces[0].text}{TEXT.split(chr(10), 1)[1]}", problem=problem)
    assert quoted.pieces == planner.pieces
    tag = tokenizer.convert_tokens_to_ids("</Plan_")
    (path, *_) = encode_calls([planner], tokenizer)
    assert path.ids.count(tag) == 2


def test_a_note_in_place_of_executions_is_left_out() -> None:
    plans = "6*7?\n<Plan_1>\nI multiply: 42.\n</Plan_1>\n"
    answer = "<Final_answer>\n\\boxed{42}\n</Final_answer>"
    noted = f"{plans}<Execution_1>\nNo prompt to execute.\n</Execution_1>\n{answer}"
    assert calls_of(noted) == calls_of(plans + answer)


PROMPTS = ("left", "middle", "right")
PLAN = "".join(f"<prompt_1.{number}>{prompt}</prompt_1.{number}>\n" for number, prompt in enumerate(PROMPTS, 1))
SEARCH = {
    "": f"<Plan_1>\n{PLAN}</Plan_1>",
    "<execution_1.1>": Reply("nothing\n</execution_1.1>", delay=2),
    "<execution_1.2>": Reply("the key is here\n</execution_1.2>", delay=1),
    "<execution_1.3>": Reply("nothing\n</execution_1.3>", delay=60),
    "</Execution_1>": "<Final_answer>\nmiddle\n</Final_answer>",
}


@pytest.mark.parametrize(("in_order", "joined"), [(True, [1, 2]), (False, [2])])
def test_a_stage_that_ended_early_is_learned_as_it_was(tokenizer, in_order, joined):
    recorder = RolloutRecorder(FakeEngine(SEARCH))
    settles = Settles(holds="the key is", in_order=in_order)
    run = run_virtual(Sprint(recorder, settles=settles).run("Where is the key?"))
    calls = calls_of(run.transcript)
    rollout = recorder.rollout(run)
    assert [branch.number for branch in rollout.branches] == [None, *joined]
    assert [text_of(call) for call in calls] == [branch.text for branch in rollout.branches]
    assert [learned(call) for call in calls] == [
        [piece.text for piece in branch.pieces if piece.sampled] for branch in rollout.branches
    ]
    sample = TrainingSample(id="a", problem="Where is the key?", text=run.transcript)
    made = Settings(model="m", data=("d",), output="o", manifest=Manifest(model="m"))
    assert build_tries([sample], tokenizer, made, limits=LengthLimits(context=1000))


def test_a_stage_without_any_execution_is_refused():
    plan = "<Plan_1>\n<prompt_1.1>left</prompt_1.1>\n</Plan_1>\n"
    with pytest.raises(ConfigurationError, match=r"prompt 1\.1 has no execution"):
        calls_of(f"Where?\n{plan}<Final_answer>\nmiddle\n</Final_answer>")
