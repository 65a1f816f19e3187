"""What a checkpoint's ``config.json`` says about its architecture, if it is one that the engine computes by itself.

Known are Llama, Mistral, Qwen2 and Qwen3 with what their checkpoints vary in: grouped queries, biases, tied embeddings,
normalised queries and keys, a sliding window, and rotary frequencies that are scaled linearly or as in Llama 3. Other
values and kinds of rotary scaling, quantised weights, adapters, and configurations that rely on a default make
``read_architecture`` return None. Then transformers decides what the checkpoint is.
"""

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sprint_agents.errors import InvalidCheckpoint

_LONGEST = 262_144
"""The rotation is stored for each position: at this length 128 MiB for heads of 128 numbers."""

Precision = Literal["float32", "bfloat16", "float16"]


class Rotary(BaseModel):
    """The rotary frequencies, as ``rope_parameters`` or, in older checkpoints, ``rope_scaling`` give them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rope_theta: float
    rope_type: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Rename ``type``, and require what the kind of scaling needs."""
        if "type" in values:
            values = {"rope_type": values["type"]} | {key: value for key, value in values.items() if key != "type"}
        needed = {
            "linear": {"factor"},
            "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
        }
        if needed.get(values.get("rope_type", "default"), set[str]()) - values.keys():
            raise ValueError("a value of the rotary scaling is missing")
        return values


class Architecture(BaseModel):
    """The fields of ``config.json`` that decide what a known architecture computes.

    The others have no influence on the forward pass. Fields without a default must be in the file.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["llama", "mistral", "qwen2", "qwen3"]
    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    max_position_embeddings: int = Field(gt=0)
    rms_norm_eps: float
    hidden_act: Literal["silu"]
    rotary: Rotary
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    sliding_window: int | None = None
    use_sliding_window: Literal[False] = False
    layer_types: list[Literal["full_attention"]] | None = None
    dtype: Precision
    eos_token_id: int | list[int] | None = None
    quantization_config: None = None
    partial_rotary_factor: Literal[1, None] = None
    original_max_position_embeddings: None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Bring the spellings of older versions of transformers to one, and add what follows from other fields."""
        rotary: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
        if config.get("rope_parameters") and config.get("rope_scaling"):
            raise ValueError("the rotary parameters are given twice")
        if "rope_theta" in config:
            rotary.setdefault("rope_theta", config["rope_theta"])
        kind = config.get("model_type")
        if kind in ("llama", "mistral", "qwen2") and not config.get("head_dim"):
            config = config | {"head_dim": config["hidden_size"] // config["num_attention_heads"]}
        return config | {"rotary": rotary, "dtype": config.get("dtype") or config.get("torch_dtype")}

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        window_missing = self.model_type == "mistral" and "sliding_window" not in self.model_fields_set
        strange_window = self.model_type == "llama" and self.sliding_window is not None
        strange_layers = self.model_type in ("llama", "mistral") and self.layer_types is not None
        if window_missing or strange_window or strange_layers:
            raise ValueError(f"a {self.model_type} model whose attention is not known")
        if self.context > _LONGEST:
            raise ValueError("a context whose rotation would take too much memory")
        if self.num_attention_heads % self.num_key_value_heads or self.head_dim % 2:
            raise ValueError("heads that cannot be grouped or rotated")
        return self

    @property
    def parameters(self) -> int:
        """The number of weights in matrices that a step multiplies by, those of tied embeddings included."""
        attention = 2 * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        return self.hidden_size * (self.num_hidden_layers * (attention + 3 * self.intermediate_size) + self.vocab_size)

    @property
    def query_bias(self) -> bool:
        """Whether the projections to queries, keys and values have biases."""
        return self.model_type == "qwen2" or (self.model_type in ("llama", "qwen3") and self.attention_bias)

    @property
    def output_bias(self) -> bool:
        """Whether the projection of the attention's output has a bias."""
        return self.model_type in ("llama", "qwen3") and self.attention_bias

    @property
    def feed_forward_bias(self) -> bool:
        """Whether the feed-forward projections have biases."""
        return self.model_type == "llama" and self.mlp_bias

    @property
    def normed_heads(self) -> bool:
        """Whether queries and keys are normalised, head by head."""
        return self.model_type == "qwen3"

    @property
    def context(self) -> int:
        """The longest context for which full attention is exact: the positions, or the sliding window."""
        window = self.sliding_window if self.model_type == "mistral" else None
        return min(self.max_position_embeddings, window or self.max_position_embeddings)


def read_architecture(directory: Path) -> Architecture | None:
    """Read the architecture of the checkpoint in ``directory``; None if it is not a known one."""
    if (directory / "adapter_config.json").exists():
        return None
    try:
        return Architecture.model_validate(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, ValidationError):
        return None


class _Generation(BaseModel):
    """What ``generation_config.json`` says about the end of a completion."""

    eos_token_id: int | list[int] | None = None


def end_ids(directory: Path, architecture: Architecture) -> frozenset[int]:
    """Return the tokens that end a completion, by ``config.json`` and ``generation_config.json``.

    Raises:
        InvalidCheckpoint: the latter is damaged.
    """
    path = directory / "generation_config.json"
    try:
        generation = _Generation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        generation = _Generation()
    except (OSError, ValidationError) as error:
        raise InvalidCheckpoint(f"{path} cannot be read: {error}. Copy it again from its source") from error
    ids: set[int] = set()
    for end in (architecture.eos_token_id, generation.eos_token_id):
        ids.update([end] if isinstance(end, int) else end or [])
    return frozenset(ids)
