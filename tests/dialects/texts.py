"""Texts made of pieces of tags, and their ways into chunks."""

from hypothesis import strategies as st

FRAGMENTS = [
    "<Plan_1>", "</Plan_1>", "</Plan_", "<Plan_2>", "</Plan_2>", "<Plan_0>", "<plan_ 1>", "</PLAN_1>",
    "<prompt_1.1>", "</prompt_1.1>", "<prompt_1.2>", "</prompt_1.2>", "</prompt_", "</prompt_1.", "<prompt_2.1>",
    "</prompt_2.1>", "<prompt_1.0>", "<Execution_1>", "</Execution_1>", "</Execution_", "<execution_1.1>",
    "</execution_1.1>", "<execution_1.2>", "</execution_1.2>", "<execution_2.1>", "</execution_", "<Final_answer>",
    "</Final_answer>", "<think>", "</think>", "word", " two words ", "\n", "\r\n", "  ", "<", "</", "<Pl", "an_3",
    "1", "1.1", ".", ">", "-----", "<|im_end|>", "</s>", "\\boxed{4}", "\\boxed{", "}", "\x00", "é", "12345678901",
]  # fmt: skip

tagged_texts = st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join)


@st.composite
def chunked(draw: st.DrawFn, texts: st.SearchStrategy[str] = tagged_texts) -> list[str]:
    """Cut a text anywhere, empty chunks included."""
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
