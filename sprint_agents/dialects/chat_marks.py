"""The marks that chat templates leave around a model's text in raw logs."""

import re

# DeepSeek's special tokens have full-width bars.
_SPECIAL = r"<[|\uff5c][^<>|\uff5c\n]{1,40}[|\uff5c]>|</?s>|<(?:start|end)_of_turn>"
_END = re.compile(_SPECIAL)
_MARK = re.compile(rf"(?:{_SPECIAL})(?:(?:system|user|assistant|model|tool)\b)?|\[/?INST\]")
_ASSISTANT = re.compile(
    r"<\|im_start\|>assistant\b|<[|\uff5c](?:Assistant|assistant)[|\uff5c]>|\[/INST\]|<start_of_turn>model\b"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>"
)


def without_marks(text: str) -> str:
    r"""Remove the marks of a chat template, and blanks around the rest.

    >>> without_marks("<|im_end|>\n<|im_start|>user\n")
    ''
    """
    return _MARK.sub("", text).strip()


def without_end_marks(text: str) -> str:
    r"""Strip blanks and the special tokens that end a turn from the end of ``text``.

    >>> without_end_marks(" 42 <|im_end|>\n</s>\n")
    ' 42'
    """
    end = len(text.rstrip())
    while (start := text.rfind("<", 0, end)) >= 0 and _END.fullmatch(text, start, end):
        end = start
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def assistant_turn(text: str, *, before: int) -> int:
    r"""Return the offset of the first assistant's turn; 0 if no mark of a template comes ``before`` that offset.

    >>> assistant_turn("<|im_start|>user\n6*7?<|im_end|>\n<|im_start|>assistant\n<Plan_1>", before=54)
    53
    """
    match = _ASSISTANT.search(text) if _MARK.search(text, 0, before) else None
    return match.end() if match else 0
