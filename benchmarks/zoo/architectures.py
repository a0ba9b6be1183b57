"""The architectures that Rooftile is held to, each in two sizes: one that a CPU interprets, and a real layer's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import transformers
from torch import nn

Kind: TypeAlias = Literal["decoder", "encoder-decoder", "encoder", "image"]
Size: TypeAlias = Literal["small", "large"]

_INNER = 128
_SMALL = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": _INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Architecture:
    """A configuration class of transformers, its model class, and arguments for either size.

    ``large`` has the sizes of one published model, all but the number of its layers, of which there are two; ``like``
    is its name. ``masks_cache`` says that a static cache wants a mask of all its positions, from which the model takes
    their biases.
    """

    name: str
    kind: Kind
    config: str
    model: str
    small: Mapping[str, Any]
    large: Mapping[str, Any]
    like: str
    masks_cache: bool = False

    def built(
        self,
        size: Size,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        attention: str | None = None,
        **changes: Any,
    ) -> nn.Module:
        """The model in eval mode, its weights drawn anew; ``changes`` go into the configuration.

        ``attention`` is transformers' name of an implementation; without it the model takes its own first choice.
        """
        arguments = {**(self.small if size == "small" else self.large), **changes}
        config = getattr(transformers, self.config)(**arguments, attn_implementation=attention)
        torch.manual_seed(0)
        with torch.device(device):
            model: nn.Module = getattr(transformers, self.model)(config).to(dtype)
        _draw_weights(model)
        return model.eval()


@torch.no_grad()
def _draw_weights(model: nn.Module) -> None:
    """Normal weights of such a size that every layer matters. The configurations' own hide mistakes: biases of zero,
    and matrices so small that attention is the mean of the values."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "bias" not in name and "sink" not in name:
            parameter.normal_(1.0, 0.2)
        else:
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5)


def _llama_like(**changes: Any) -> dict[str, Any]:
    return {**_SMALL, **changes}


_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture(
            "llama",
            "decoder",
            "LlamaConfig",
            "LlamaForCausalLM",
            _llama_like(),
            {
                "vocab_size": 128256,
                "hidden_size": 2048,
                "intermediate_size": 8192,
                "num_hidden_layers": 2,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 64,
                "max_position_embeddings": 8192,
                "tie_word_embeddings": True,
            },
            "Llama-3.2-1B",
        ),
        Architecture(
            "gpt2",
            "decoder",
            "GPT2Config",
            "GPT2LMHeadModel",
            {"vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "pad_token_id": 0},
            {"vocab_size": 50257, "n_embd": 1600, "n_layer": 2, "n_head": 25, "n_positions": 2048},
            "GPT-2 XL",
        ),
        Architecture(
            "qwen3",
            "decoder",
            "Qwen3Config",
            "Qwen3ForCausalLM",
            _llama_like(),
            {
                "vocab_size": 151936,
                "hidden_size": 4096,
                "intermediate_size": 12288,
                "num_hidden_layers": 2,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
            },
            "Qwen3-8B",
        ),
        Architecture(
            "gemma2",
            "decoder",
            "Gemma2Config",
            "Gemma2ForCausalLM",
            _llama_like(sliding_window=8, query_pre_attn_scalar=16),
            {
                "vocab_size": 256000,
                "hidden_size": 2304,
                "intermediate_size": 9216,
                "num_hidden_layers": 2,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "sliding_window": 4096,
            },
            "Gemma-2-2B",
        ),
        Architecture(
            "mixtral",
            "decoder",
            "MixtralConfig",
            "MixtralForCausalLM",
            _llama_like(num_local_experts=4, num_experts_per_tok=2),
            {
                "vocab_size": 32000,
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 2,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "num_local_experts": 8,
                "num_experts_per_tok": 2,
            },
            "Mixtral-8x7B",
        ),
        Architecture(
            "gpt_oss",
            "decoder",
            "GptOssConfig",
            "GptOssForCausalLM",
            _llama_like(num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
            {
                "vocab_size": 201088,
                "hidden_size": 2880,
                "intermediate_size": 2880,
                "num_hidden_layers": 2,
                "num_attention_heads": 64,
                "num_key_value_heads": 8,
                "head_dim": 64,
                "num_local_experts": 32,
                "num_experts_per_tok": 4,
                "sliding_window": 128,
            },
            "gpt-oss-20b",
        ),
        Architecture(
            "deepseek_v3",
            "decoder",
            "DeepseekV3Config",
            "DeepseekV3ForCausalLM",
            {
                **_SMALL,
                "num_key_value_heads": 4,
                "head_dim": 8,
                "moe_intermediate_size": 32,
                "n_routed_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "num_experts_per_tok": 2,
                "first_k_dense_replace": 1,
                "q_lora_rank": 32,
                "kv_lora_rank": 32,
                "qk_rope_head_dim": 8,
                "qk_nope_head_dim": 16,
                "v_head_dim": 16,
            },
            {
                "vocab_size": 102400,
                "hidden_size": 2048,
                "intermediate_size": 10944,
                "moe_intermediate_size": 1408,
                "num_hidden_layers": 2,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "n_routed_experts": 64,
                "n_shared_experts": 2,
                "n_group": 8,
                "topk_group": 4,
                "num_experts_per_tok": 6,
                "first_k_dense_replace": 1,
                "q_lora_rank": 1536,
                "kv_lora_rank": 512,
                "qk_rope_head_dim": 64,
                "qk_nope_head_dim": 128,
                "v_head_dim": 128,
            },
            "DeepSeek-V2-Lite's sizes",
        ),
        Architecture(
            "bloom",
            "decoder",
            "BloomConfig",
            "BloomForCausalLM",
            {"vocab_size": 128, "hidden_size": 64, "n_layer": 2, "n_head": 4, "pad_token_id": 0},
            {"vocab_size": 250880, "hidden_size": 2048, "n_layer": 2, "n_head": 16},
            "BLOOM-1b7",
            masks_cache=True,
        ),
        Architecture(
            "t5",
            "encoder-decoder",
            "T5Config",
            "T5ForConditionalGeneration",
            {
                "vocab_size": 128,
                "d_model": 64,
                "d_kv": 16,
                "d_ff": _INNER,
                "num_layers": 2,
                "num_decoder_layers": 2,
                "num_heads": 4,
            },
            {
                "vocab_size": 32128,
                "d_model": 1024,
                "d_kv": 64,
                "d_ff": 2816,
                "num_layers": 2,
                "num_decoder_layers": 2,
                "num_heads": 16,
                "feed_forward_proj": "gated-gelu",
            },
            "Flan-T5-large",
        ),
        Architecture(
            "bert",
            "encoder",
            "BertConfig",
            "BertForMaskedLM",
            {
                "vocab_size": 128,
                "hidden_size": 64,
                "intermediate_size": _INNER,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": 128,
            },
            {
                "vocab_size": 30522,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 2,
                "num_attention_heads": 16,
            },
            "BERT-large",
        ),
        Architecture(
            "vit",
            "image",
            "ViTConfig",
            "ViTForImageClassification",
            {
                "image_size": 16,
                "patch_size": 4,
                "hidden_size": 64,
                "intermediate_size": _INNER,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
            },
            {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 2,
                "num_attention_heads": 16,
            },
            "ViT-L/16",
        ),
        Architecture(
            "qwen3_next",
            "decoder",
            "Qwen3NextConfig",
            "Qwen3NextForCausalLM",
            _llama_like(
                **_EXPERTS,
                shared_expert_intermediate_size=32,
                linear_num_key_heads=2,
                linear_num_value_heads=4,
                linear_key_head_dim=16,
                linear_value_head_dim=16,
                layer_types=["linear_attention", "full_attention"],
            ),
            {
                "vocab_size": 151936,
                "hidden_size": 2048,
                "num_hidden_layers": 2,
                "num_experts": 64,
                "layer_types": ["linear_attention", "full_attention"],
            },
            "Qwen3-Next-80B-A3B with 64 of its 512 experts",
        ),
    )
}
