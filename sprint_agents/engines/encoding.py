"""Encode texts with a checkpoint's tokenizer so that control tokens come from markup only.

A tokenizer looks for its added tokens first, and encodes the text between them. Here the ones in outside text are not
looked for, and everything else is the same: a text whose outside text has none gets the ids that the tokenizer gives.

Every added token is a control token, except those that are ordinary text: white space, and words and characters that
the vocabulary lacks. Many marks of chat templates are not flagged as special (``<think>``, ``<tool_call>``).
"""

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer, Sequence

from sprint_agents.markup import is_markup, spans_of


class EncodedText(NamedTuple):
    """The ids of a text, and the offset in the text at which each token ends."""

    ids: list[int]
    ends: list[int]


class TextEncoder:
    """Encodes texts for the model of ``tokenizer``, whole, with no tokens added at the beginning or the end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_truncation()  # training may have stored it in the file
        tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder()
        self._ordinary = {number: token for number, token in added.items() if _is_ordinary(token)}
        self.control_ids = frozenset(added.keys() - self._ordinary.keys())

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        found = self._tokenizer.encode(str(text), add_special_tokens=False)
        ids: list[int] = found.ids
        return ids if self.control_ids.isdisjoint(ids) or self._all_in_markup(found, text) else self._apart(text).ids

    def encode_all(self, texts: Iterable[str]) -> list[EncodedText]:
        """Return the token ids of each text, and where the tokens end."""
        texts = list(texts)
        found = self._tokenizer.encode_batch([str(text) for text in texts], add_special_tokens=False)
        return [
            EncodedText(each.ids, [end for _, end in each.offsets])
            if self._all_in_markup(each, text)
            else self._apart(text)
            for each, text in zip(found, texts, strict=True)
        ]

    def _all_in_markup(self, found: Encoding, text: str) -> bool:
        """Say whether each control token is a part of the markup; some take the white space around them as well."""
        controls = [index for index, number in enumerate(found.ids) if number in self.control_ids]
        offsets = found.offsets if controls else ()
        for index in controls:
            first, last = offsets[index]
            token = text[first:last]
            first, last = first + len(token) - len(token.lstrip()), last - len(token) + len(token.rstrip())
            if not is_markup(text, first, last):
                return False
        return True

    def _apart(self, text: str) -> EncodedText:
        r"""Encode the control tokens of the markup, and what is between them by tokenizers without control tokens.

        Example: in ``<|im_start|>user\nhi<|im_end|>``, of which ``<|im_start|>user\n`` is markup, the first token is
        the control token, and the tokens of ``user\nhi<|im_end|>`` follow as if it were any text.
        """
        plain, position = str(text), 0
        ids: list[int] = []
        ends: list[int] = []
        for start, end in spans_of(text):
            found = self._tokenizer.encode(plain[start:end], add_special_tokens=False)
            for number, (first, last) in zip(found.ids, found.offsets, strict=True):
                if number in self.control_ids:
                    self._add_plain(plain, position, start + first, ids, ends)
                    position = start + last
                    ids.append(number)
                    ends.append(position)
        self._add_plain(plain, position, len(plain), ids, ends)
        return EncodedText(ids, ends)

    def _add_plain(self, text: str, start: int, end: int, ids: list[int], ends: list[int]) -> None:
        """Encode a part of ``text`` without control tokens."""
        if start == end:
            return
        numbers, offsets = self._encode_plain(text[start:end], first=start == 0)
        # In some vocabularies a control token is a word as well, and found as one: then its text is cut in two.
        cuts = [begin + 1 for number, (begin, _) in zip(numbers, offsets, strict=True) if number in self.control_ids]
        if cuts:
            numbers, offsets = list[int](), list[tuple[int, int]]()
            for begin, stop in pairwise([0, *cuts, end - start]):
                more, places = self._encode_plain(text[start + begin : start + stop], first=start + begin == 0)
                numbers += more
                offsets += [(begin + first, begin + last) for first, last in places]
        ids += numbers
        ends += [start + last for _, last in offsets]

    def _encode_plain(self, text: str, *, first: bool) -> tuple[list[int], list[tuple[int, int]]]:
        tokenizer = self._plain[0 if first else 1]
        found = tokenizer.encode(text, add_special_tokens=False)
        return [self._renumbered.get(number, number) for number in found.ids], found.offsets

    @cached_property
    def _plain(self) -> tuple[Tokenizer, Tokenizer]:
        """Return tokenizers without control tokens: for the beginning of a text, and for what follows a token in it."""
        return self._without_controls(first=True), self._without_controls(first=False)

    def _without_controls(self, *, first: bool) -> Tokenizer:
        whole = self._tokenizer
        plain = Tokenizer(whole.model)  # shared, not copied
        if whole.normalizer is not None:
            plain.normalizer = whole.normalizer
        if whole.pre_tokenizer is not None:
            plain.pre_tokenizer = whole.pre_tokenizer if first else _inside(whole.pre_tokenizer)
        plain.add_tokens([*self._ordinary.values()])  # pyright: ignore[reportUnknownMemberType] - has no type
        return plain

    @cached_property
    def _renumbered(self) -> dict[int, int]:
        """Map the ids that ordinary added tokens have in the tokenizers without control tokens to their own ids."""
        found = {self._plain[0].token_to_id(token.content): number for number, token in self._ordinary.items()}
        return {other: number for other, number in found.items() if other is not None}


def _is_ordinary(token: AddedToken) -> bool:
    """Say whether an added token is a part of ordinary text."""
    text = token.content
    return not token.special and (
        len(text) == 1 or all(each.isalnum() or each.isspace() or each == "▁" for each in text)
    )


def _inside(pre_tokenizer: PreTokenizer) -> PreTokenizer:
    """Return the pre-tokenizer for text that follows a token: some put a blank before the first word of a text."""
    state = pre_tokenizer.__getstate__()
    inside: PreTokenizer = Sequence([])
    inside.__setstate__(state.replace(b'"prepend_scheme":"first"', b'"prepend_scheme":"never"'))
    return inside
