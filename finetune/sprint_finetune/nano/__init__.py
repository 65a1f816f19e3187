"""How sprint-nano is made: its problems, its traces, its tokenizer and its training from scratch."""
