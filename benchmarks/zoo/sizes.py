"""What sizes in a configuration are made, by what they are called: the table of ``benchmarks/zoo/small.py``."""

from __future__ import annotations

VOCABULARY = 128

_NAMES = {
    64: """
        hidden_size d_model n_embd embed_dim embedding_dim dim hidden_dim emb_dim hidden_sizes
        encoder_hidden_size decoder_hidden_size encoder_hidden_dim text_hidden_size vision_hidden_size
        word_embed_proj_dim embedding_size query_dim out_hidden_size output_hidden_size
        projector_hidden_size head_hidden_size reassemble_hidden_size image_text_hidden_size
        backbone_hidden_size attention_hidden_size lru_width d_latents conv_dim embed_dims
        memory_attention_hidden_size memory_encoder_hidden_size fpn_hidden_size width d_embed
        stage_out_channels stem_channels encoder_in_channels decoder_in_channels feature_size
        mask_feature_size upsample_initial_channel tdnn_dim audio_hidden_size encoder_embed_dim
        decoder_embed_dim max_position_embeddings n_positions max_seq_len max_source_positions
        max_target_positions max_seq_length max_2d_position_embeddings image_size pretrain_image_size
        position_embeddings_size num_position_embeddings max_length
    """,
    96: """
        intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim n_inner mlp_dim d_inner block_ff_dim
        decoder_intermediate_size ffn_hidden_size encoder_intermediate_size encoder_feedforward_dim
        dim_feedforward speech_encoder_intermediate_size memory_attention_feed_forward_hidden_size
    """,
    32: """
        moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size projection_dim
        pooler_output_size pooler_hidden_size fusion_hidden_size hidden_size_per_layer_input q_lora_rank
        classifier_proj_size codevector_dim proj_codevector_dim codebook_dim xvector_output_dim
        neck_out_channels head_out_channels num_filters aspp_out_channels neck_hidden_sizes
        subsampling_conv_channels expert_ffn_hidden_size moe_latent_size num_mel_bins
        feature_projection_input_dim n_mels input_feat_per_channel
    """,
    16: """
        head_dim d_kv v_head_dim qk_nope_head_dim kv_lora_rank d_head global_head_dim index_head_dim
        linear_key_head_dim linear_value_head_dim mamba_d_head mamba_head_dim linear_head_dim kv_channels
        query_pre_attn_scalar num_conv_pos_embeddings key_value_proj_dim attention_head_dim
        attention_key_size swa_head_dim patch_size
    """,
    8: """
        qk_rope_head_dim state_size mamba_d_state ssm_state_size rotary_dim sliding_window attention_window
        index_topk chunk_size mamba_chunk_size num_queries
    """,
    24: """
        qk_head_dim
    """,
    4: """
        num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads
        encoder_num_attention_heads decoder_num_attention_heads num_local_experts num_experts
        n_routed_experts moe_num_experts linear_num_value_heads mamba_n_heads mamba_num_heads index_n_heads
        linear_num_heads num_self_attention_heads num_cross_attention_heads speech_encoder_attention_heads
        n_head_kv decoder_self_attention_heads decoder_cross_attention_heads relative_attention_num_buckets
        rel_pos_bins rel_2d_pos_bins num_latents local_attention attention_chunk_size
        num_conv_pos_embedding_groups speech_decoder_attention_heads swa_num_attention_heads
        text_decoder_attention_heads num_frames
    """,
    2: """
        num_key_value_heads num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers
        num_decoder_layers encoder_num_hidden_layers decoder_num_hidden_layers num_encoder_layers
        num_kv_heads num_experts_per_tok moe_topk moe_k n_group linear_num_key_heads mamba_n_groups
        mamba_expand n_groups num_experts_per_token top_k_experts num_codebooks attn_layer_period depth
        num_block_layers speech_encoder_layers no_rope_layer_interval sliding_window_pattern
        full_attention_interval num_query_groups memory_fuser_num_layers memory_attention_num_layers
        num_blocks speech_decoder_layers num_hidden_groups num_self_attends_per_block
        swa_num_key_value_heads full_attn_interval num_attention_groups num_feature_levels
        num_adapter_layers text_encoder_layers text_decoder_layers global_attn_every_n_layers
        type_vocab_size expert_layer_period expert_capacity block_repeats
    """,
    1: """
        depths n_shared_experts num_shared_experts moe_num_shared_experts topk_group first_k_dense_replace
        attn_layer_offset num_nextn_predict_layers mtp_num_layers expert_layer_offset
    """,
    0: """
        num_kv_shared_layers
    """,
    VOCABULARY: """
        vocab_size vocab_size_per_layer_input
    """,
}

AT_MOST = {name: most for most, names in _NAMES.items() for name in names.split()}
"""What an attribute of this name is at most. A list is divided as a whole, so that its largest number becomes this."""
