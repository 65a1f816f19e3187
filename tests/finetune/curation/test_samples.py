"""A sample is read back before it is kept. One that lost a line or changed is rejected."""

import pytest

from sprint_finetune.curation import Rejection, Sample, Style
from sprint_finetune.curation.packing import pack, shape_of
from sprint_finetune.curation.records import Packed, Step, Verdict
from sprint_finetune.curation.rules.rule_extractor import read_steps
from sprint_finetune.curation.samples import sample_of


@pytest.fixture
def make(make_trace):
    def call(*, steps: tuple[Step, ...] | None = None) -> Sample | Rejection:
        trace = make_trace("t")
        packed = pack(*read_steps(trace))
        if steps is not None:
            packed = Packed(id="t", steps=steps, parents=((),) * len(steps), stages=(tuple(range(1, len(steps) + 1)),))
        verdict = Verdict(id="t", stated="12", by="text")
        return sample_of(trace, verdict, packed, shape_of(packed), style=Style(), eval_share=0.0)

    return call


def test_a_sample_has_both_texts_and_their_costs(make) -> None:
    sample = make()
    assert isinstance(sample, Sample)
    assert sample.metrics.width == 2
    assert sample.metrics.sequential_tokens < sample.metrics.total_tokens
    assert sample.chain_metrics.sequential_tokens < sample.metrics.total_tokens
    assert (sample.split, sample.answer) == ("train", "12")


@pytest.mark.parametrize(
    ("steps", "detail"),
    [
        ((Step(number=1, plan=((1, 12),)),), "-1"),
        ((Step(number=1, plan=((1, 13),)), Step(number=2, plan=((4, 4),))), "+1"),
        ((Step(number=1, plan=((1, 1),), execution=((2, 13),), prompt=" "),), "diagnostic"),
    ],
)
def test_a_text_that_does_not_read_back_as_it_was_meant_is_rejected(make, steps: tuple[Step, ...], detail: str) -> None:
    rejection = make(steps=steps)
    assert isinstance(rejection, Rejection)
    assert (rejection.stage, rejection.reason) == ("reformat", "not_well_formed")
    assert detail in rejection.detail
