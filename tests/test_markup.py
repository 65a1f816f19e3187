from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.markup import PromptTemplate, compose, markup

words = st.text(alphabet="ab_é", max_size=4)
pieces = st.lists(st.tuples(words, st.booleans()), max_size=6)


@given(pieces, st.sampled_from(["1", "317", "ab", "\ud800"]))
def test_a_filled_template_is_the_text_that_has_the_word_from_the_start(pieces, word):
    whole = word if word != "\ud800" else "\\ud800"

    def written(gap: str):
        return compose(markup(text.replace("_", gap)) if marked else text.replace("_", gap) for text, marked in pieces)

    filled = PromptTemplate(written("\0"), gap="\0").fill(word)
    assert (str(filled), [span for span in filled.spans if span[0] < span[1]]) == (
        str(written(whole)),
        [*written(whole).spans],
    )
