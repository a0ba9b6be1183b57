"""Compile a decoder layer of Hugging Face's transformers with ``torch.compile(backend="rooftile")``.

The layer comes from a configuration with random weights: nothing is downloaded.

    pip install transformers
    python examples/hf_layer.py
"""

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

import rooftile
from rooftile.checking import check


def main() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2)
    config._attn_implementation = "sdpa"
    layer = LlamaDecoderLayer(config, layer_idx=0).to(torch.bfloat16).eval()
    x = torch.randn(1, 24, config.hidden_size, dtype=torch.bfloat16)
    rotary = LlamaRotaryEmbedding(config)(x, torch.arange(x.shape[1])[None])

    fast = torch.compile(layer, backend="rooftile")
    with torch.no_grad():
        y = fast(x, position_embeddings=rotary)
    assert y.shape == x.shape

    for accuracy in check(fast, layer, (x,), {"position_embeddings": rotary}):
        print(accuracy)
        assert accuracy.kept

    report = rooftile.explain(layer, x, position_embeddings=rotary)
    for kernel in report.kernels:
        print(f"{kernel.name:32} {kernel.bytes:7} bytes  {', '.join(dict.fromkeys(kernel.ops))}")
    assert all(kernel.kind == "triton" for kernel in report.kernels)


if __name__ == "__main__":
    main()
