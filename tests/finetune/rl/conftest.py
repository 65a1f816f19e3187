"""A tiny model that knows one problem in three ways: at once, after a long thought, and planned."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sprint_agents.dialects.tags.dialect import TagDialect
from sprint_agents.manifest import FILE_NAME, Manifest
from sprint_finetune.nano.tokenizer import build_tokenizer
from sprint_finetune.training import Call, Piece, calls_of, encode_calls, flatten
from sprint_finetune.training.collation import Collator
from sprint_finetune.training.loss import edge_loss

PROBLEM = "Use 5, 2, 3 at will."
ANSWER = "\\boxed{10}"
_END = f"<Final_answer>\n{ANSWER}\n</Final_answer>"
QUICK = _END
SLOW = f"<think>\n{'1 + 2 = 3 , ' * 3}\n</think>\n{_END}"
PLANNED = (
    "<Plan_1><prompt_1.1>5</prompt_1.1><prompt_1.2>3</prompt_1.2></Plan_1>\n<Execution_1>\n<execution_1.1>\n5\n"
    f"</execution_1.1>\n<execution_1.2>\n3\n</execution_1.2>\n</Execution_1>\n{_END}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the tiny model, which writes each of the three texts about equally often."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    dialect = TagDialect.of(None)
    question = Piece(f"{PROBLEM}\n", False)
    thoughts = [[Call("planner", (question, Piece(dialect.mark(text), True)))] for text in (QUICK, SLOW)]
    runs = [*thoughts, calls_of(f"{PROBLEM}\n{PLANNED}")]
    batch = Collator(1)([flatten(encode_calls(calls, tokenizer)) for calls in runs])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        (edge_loss(model, batch, config=config) / batch["weights"].sum()).backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    manifest = Manifest(model="tiny", plan_tokens=60, execution_tokens=20, stages=3)
    (folder / FILE_NAME).write_text(manifest.model_dump_json())
    return folder
