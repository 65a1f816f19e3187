from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.engines.openai.streamed import StopWatch

letters = st.text("ab<", min_size=1, max_size=4)


@given(st.lists(letters, max_size=4), st.lists(st.text("ab<", max_size=4), max_size=12))
def test_the_first_stop_is_found_however_the_text_is_cut(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    ends = [whole.index(stop) + len(stop) for stop in stops if stop in whole]
    watch = StopWatch(stops)
    seen = ""
    for piece in pieces:
        seen += watch.feed(piece)
        if watch.found is not None:
            break
    assert seen == whole[: min(ends, default=len(whole))]
    assert (watch.found is not None) == bool(ends)
    assert watch.found is None or (watch.found in stops and seen.endswith(watch.found))
