"""The loss on a model that FSDP2 shards over two processes: the value and the gradients of one process."""

import subprocess
import sys

PROGRAM = """
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM
from sprint_finetune.training import Collator, TokenPath, edge_loss, flatten
from sprint_finetune.training.loss import plain_head

def made(tied):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, tie_word_embeddings=tied, initializer_range=0.3))

dist.init_process_group("gloo")
branches = flatten([TokenPath([5, 6, 7, 8, 9], [0, 0, 1, 1, 1]), TokenPath([5, 6, 9, 7], [0, 0, 1, 1])])
batches = [Collator()([branches]), Collator()([flatten([TokenPath([1, 2, 3, 4], [0, 1, 1, 1])])])]
for tied in (False, True):
    alone, sharded, mesh = made(tied), made(tied), init_device_mesh("cpu", (2,))
    whole = sum(edge_loss(alone, batch, config=alone.config) for batch in batches)
    whole.backward()
    for layer in (*sharded.model.layers, sharded):
        fully_shard(layer, mesh=mesh)
    head = plain_head(sharded, sharded)
    assert head is sharded.lm_head
    loss = edge_loss(sharded, batches[dist.get_rank()], config=sharded.config, head=head, chunk=2)
    loss.backward()
    both = loss.detach().clone()
    dist.all_reduce(both)
    torch.testing.assert_close(both, whole.detach())
    for one, part in zip(alone.parameters(), sharded.parameters(), strict=True):
        assert isinstance(part.grad, DTensor)
        torch.testing.assert_close(part.grad.full_tensor() * 2, one.grad, atol=1e-4, rtol=1e-3)  # FSDP averages
dist.destroy_process_group()
"""


def test_two_processes_with_half_a_model_each(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
