"""The architectures of torch_zoo.py: modules with random weights and small example inputs, by family and name.

An entry makes (module, arguments, dynamic axes for each argument). Sizes are small where they do not matter: what is
measured are operators and structure, not arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

Made = tuple[nn.Module, tuple[Any, ...], tuple[dict[int, str], ...]]
Maker = Callable[[], Made]

BATCH = {0: "batch"}
TOKENS = {0: "batch", 1: "length"}
VOCABULARY = 200
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
DECODER = {**SMALL, "intermediate_size": 96, "num_key_value_heads": 2, "pad_token_id": 0}
ENCODER = {**SMALL, "intermediate_size": 96}


def images(size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size)


def tokens(length: int = 12) -> torch.Tensor:
    return torch.randint(5, VOCABULARY, (2, length))


def padding(length: int = 12) -> torch.Tensor:
    """Ones, but for the last three of the second sample."""
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, -3:] = 0
    return mask


# torchvision


def vision(name: str, size: int = 64, **options: Any) -> Maker:
    def make() -> Made:
        import torchvision

        module = torchvision.models.get_model(name, weights=None, **options)
        return module, (images(size),), (BATCH,)

    return make


def segmentation(name: str) -> Maker:
    return vision(name, 64, weights_backbone=None)


def video(name: str, frames: int = 8, size: int = 64) -> Maker:
    def make() -> Made:
        import torchvision

        module = torchvision.models.get_model(name, weights=None)
        return module, (torch.randn(1, 3, frames, size, size),), ({},)

    return make


def flow(name: str) -> Maker:
    """Optical flow between two images, refined twice."""

    def make() -> Made:
        import torchvision

        module = torchvision.models.get_model(name, weights=None)
        return Called(module, num_flow_updates=2), (images(128), images(128)), ({}, {})

    return make


class Called(nn.Module):
    """A module called with fixed keyword arguments besides the given ones."""

    def __init__(self, module: nn.Module, **fixed: Any) -> None:
        super().__init__()
        self.module, self.fixed = module, fixed

    def forward(self, *arguments: Any) -> Any:
        return self.module(*arguments, **self.fixed)


TORCHVISION: dict[str, Maker] = {
    **{
        name: vision(name)
        for name in (
            "alexnet", "vgg11", "vgg11_bn", "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2",
            "densenet121", "squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
            "mnasnet0_5", "mnasnet1_0", "shufflenet_v2_x0_5", "shufflenet_v2_x1_5", "efficientnet_b0",
            "efficientnet_b1", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "swin_t",
            "swin_v2_t",
        )
    },
    "vit_b_32": vision("vit_b_32", 64, image_size=64), "vit_b_16": vision("vit_b_16", 64, image_size=64),
    "maxvit_t": vision("maxvit_t", 224, input_size=(224, 224)),
    "googlenet": vision("googlenet", 96, init_weights=False, aux_logits=False),
    "inception_v3": vision("inception_v3", 96, init_weights=False, aux_logits=False),
    **{
        name: segmentation(name)
        for name in ("fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
    },
    **{name: video(name) for name in ("r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t")},
    "s3d": video("s3d", 16, 224), "mvit_v1_b": video("mvit_v1_b", 16, 224), "mvit_v2_s": video("mvit_v2_s", 16, 224),
    "raft_small": flow("raft_small"), "raft_large": flow("raft_large"),
}  # fmt: skip


# timm


TIMM_SIZES = {"halonet26t": 256}
"""Architectures whose blocks do not fit into 96 pixels."""


def timm_model(name: str) -> Maker:
    """At the architecture's own size where it is fixed, else at 96 pixels."""

    def make() -> Made:
        import timm

        module = timm.create_model(name, pretrained=False, num_classes=10)
        config = module.pretrained_cfg
        size = config["input_size"][-1] if config.get("fixed_input_size") else TIMM_SIZES.get(name, 96)
        return module, (images(size),), (BATCH,)

    return make


TIMM: dict[str, Maker] = {
    name: timm_model(name)
    for name in (
        "beit_base_patch16_224", "halonet26t", "botnet26t_256", "lambda_resnet26t", "gernet_s", "repvgg_a0",
        "cait_xxs24_224", "coat_lite_tiny", "convit_tiny", "convmixer_768_32", "convnext_atto", "convnextv2_atto",
        "cpubone_nano", "crossvit_tiny_240", "csatv2", "darknet17", "cspnext_tiny", "davit_tiny",
        "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "densenet121", "dla34", "dpn48b",
        "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "mixnet_s", "tinynet_e", "efficientvim_m1",
        "efficientvit_b0", "efficientvit_m0", "eva02_tiny_patch14_224", "fasternet_t0", "fastvit_t8",
        "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050", "ghostnetv2_100", "hardcorenas_a", "hgnetv2_b0",
        "hiera_tiny_224", "hrnet_w18_small", "iformer_t", "inception_next_atto", "inception_v4", "lcnet_035",
        "lcnetv2_small", "levit_128", "lowformer_b0", "mambaout_femto", "test_maxvit", "coatnet_0_rw_224",
        "poolformer_s12", "caformer_s18", "gmlp_s16_224", "resmlp_12_224", "mixer_s32_224", "fbnetv3_b",
        "mobilenetv4_conv_small", "mobilenetv4_hybrid_medium", "mobilevit_xxs", "mobilevitv2_050", "mvitv2_tiny",
        "nest_tiny", "nextvit_small", "nf_regnet_b0", "nfnet_l0", "pit_ti_224", "pvt_v2_b0", "rdnet_tiny",
        "regnety_002", "repghostnet_050", "repvit_m0_9", "res2net50_14w_8s", "resnest14d", "seresnet18",
        "resnetv2_18", "rexnet_100", "selecsls42b", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050",
        "swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_224",
        "tiny_vit_5m_224", "tnt_s_patch16_224", "tresnet_m", "twins_pcpvt_small", "twins_svt_small",
        "visformer_tiny", "test_vit", "vit_tiny_patch16_224", "vit_relpos_small_patch16_224",
        "samvit_base_patch16_224", "vitamin_small_224", "volo_d1_224", "ese_vovnet19b_dw", "xception41",
        "xcit_nano_12_p16_224",
    )
}  # fmt: skip


# transformers


class Cached(nn.Module):
    """A decoder whose cache is a list of keys and values that goes in and comes out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, past: list[Any]) -> Any:
        from transformers import DynamicCache

        cache = DynamicCache([(past[i], past[i + 1]) for i in range(0, len(past), 2)])
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True, return_dict=True
        )
        states = [state for layer in out.past_key_values.layers for state in (layer.keys, layer.values)]
        return {"logits": out.logits, "present": states}


class Keyword(nn.Module):
    """A model called by keyword; its result is a dataclass."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], **fixed: Any) -> None:
        super().__init__()
        self.model, self.names, self.fixed = model, names, fixed

    def forward(self, *arguments: Any) -> Any:
        return self.model(**dict(zip(self.names, arguments, strict=True)), **self.fixed)


def hugging(kind: str, config: str, options: Mapping[str, Any], **more: Any) -> nn.Module:
    import transformers

    made = getattr(transformers, config)(**{**options, **more})
    return getattr(transformers, kind)(made)


def encoder(kind: str, config: str, **options: Any) -> Maker:
    def make() -> Made:
        model = hugging(kind, config, ENCODER, **options)
        return Keyword(model, ("input_ids", "attention_mask")), (tokens(), padding()), (TOKENS, TOKENS)

    return make


def decoder(kind: str, config: str, **options: Any) -> Maker:
    """Without a cache."""

    def make() -> Made:
        model = hugging(kind, config, DECODER, **options)
        names = ("input_ids", "attention_mask")
        return Keyword(model, names, use_cache=False), (tokens(), padding()), (TOKENS, TOKENS)

    return make


def cached(kind: str, config: str, key_heads: int, width: int = 16, **options: Any) -> Maker:
    """One decoding step of two tokens after five."""

    def make() -> Made:
        model = hugging(kind, config, DECODER, **options)
        layers = model.config.num_hidden_layers
        past = [torch.randn(2, key_heads, 5, width) for _ in range(2 * layers)]
        mask = torch.ones(2, 7, dtype=torch.int64)
        mask[1, :2] = 0
        dynamic = ({0: "batch"}, {0: "batch", 1: "total"}, [{0: "batch", 2: "past"}] * len(past))
        return Cached(model), (tokens(2), mask, past), dynamic  # pyright: ignore[reportReturnType]

    return make


def both(kind: str, config: str, **options: Any) -> Maker:
    """Encoder and decoder of text."""

    def make() -> Made:
        model = hugging(kind, config, {"vocab_size": VOCABULARY}, **options)
        names = ("input_ids", "attention_mask", "decoder_input_ids")
        return Keyword(model, names, use_cache=False), (tokens(), padding(), tokens(7)), (TOKENS, TOKENS, TOKENS)

    return make


def pictures(kind: str, config: str, size: int = 64, **options: Any) -> Maker:
    def make() -> Made:
        return Keyword(hugging(kind, config, options), ("pixel_values",)), (images(size),), (BATCH,)

    return make


def sound(kind: str, config: str, **options: Any) -> Maker:
    def make() -> Made:
        model = hugging(kind, config, options)
        return Keyword(model, ("input_values",)), (torch.randn(2, 2000),), (BATCH,)

    return make


def whisper() -> Made:
    options = {
        "vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_source_positions": 50,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "num_mel_bins": 20,
    }  # fmt: skip
    model = hugging("WhisperModel", "WhisperConfig", options)
    names = ("input_features", "decoder_input_ids")
    return Keyword(model, names, use_cache=False), (torch.randn(2, 20, 100), tokens(7)), (BATCH, TOKENS)


def pair(kind: str, config: str, text: Mapping[str, Any], vision: Mapping[str, Any], **options: Any) -> Maker:
    """Text and images in one space."""

    def make() -> Made:
        model = hugging(kind, config, {"text_config": dict(text), "vision_config": dict(vision)}, **options)
        names = ("input_ids", "pixel_values", "attention_mask")
        ids = tokens()
        ids[:, -1] = VOCABULARY - 1
        dynamic = ({0: "texts", 1: "length"}, {0: "images"}, {0: "texts", 1: "length"})
        return Keyword(model, names), (ids, images(32)[[0, 1, 1]], torch.ones_like(ids)), dynamic

    return make


PATCHES = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "patch_size": 16,
}  # fmt: skip
TEXT = {**ENCODER, "max_position_embeddings": 32, "projection_dim": 32, "pad_token_id": 1, "bos_token_id": 2}
BART = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip
SPEECH = {
    **ENCODER, "conv_dim": [32] * 4, "conv_kernel": [10, 3, 3, 2], "conv_stride": [5, 2, 2, 2],
    "num_feat_extract_layers": 4, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}

TRANSFORMERS: dict[str, Maker] = {
    "bert": encoder("BertModel", "BertConfig"),
    "bert_eager": encoder("BertModel", "BertConfig", attn_implementation="eager"),
    "bert_masked": encoder("BertForMaskedLM", "BertConfig"),
    "roberta": encoder("RobertaModel", "RobertaConfig", pad_token_id=1),
    "distilbert": encoder("DistilBertModel", "DistilBertConfig", dim=64, hidden_dim=96, n_layers=2, n_heads=4),
    "albert": encoder("AlbertModel", "AlbertConfig", embedding_size=32),
    "electra": encoder("ElectraModel", "ElectraConfig", embedding_size=32),
    "mpnet": encoder("MPNetModel", "MPNetConfig", pad_token_id=1),
    "deberta": encoder("DebertaModel", "DebertaConfig", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "deberta_v2": encoder(
        "DebertaV2Model", "DebertaV2Config", relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8
    ),
    "mobilebert": encoder("MobileBertModel", "MobileBertConfig", intra_bottleneck_size=32, embedding_size=32),
    "squeezebert": encoder("SqueezeBertModel", "SqueezeBertConfig", embedding_size=64),
    "modernbert": encoder(
        "ModernBertModel", "ModernBertConfig", pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
        sep_token_id=2, attn_implementation="sdpa",
    ),
    "nomic_roformer": encoder("RoFormerModel", "RoFormerConfig", embedding_size=64),
    "fnet": lambda: (
        Keyword(hugging("FNetModel", "FNetConfig", ENCODER), ("input_ids",)), (tokens(),), ({},),
    ),
    "gpt2": decoder("GPT2LMHeadModel", "GPT2Config", **GPT),
    "gpt2_cached": cached("GPT2LMHeadModel", "GPT2Config", 4, **GPT),
    "gpt_neox": decoder("GPTNeoXForCausalLM", "GPTNeoXConfig"),
    "gptj": decoder("GPTJForCausalLM", "GPTJConfig", rotary_dim=8, **GPT),
    "opt": decoder("OPTForCausalLM", "OPTConfig", ffn_dim=96, word_embed_proj_dim=64),
    "bloom": decoder("BloomForCausalLM", "BloomConfig", n_layer=2, n_head=4),
    "falcon": decoder("FalconForCausalLM", "FalconConfig", new_decoder_architecture=False, alibi=False),
    "phi3": decoder("Phi3ForCausalLM", "Phi3Config"),
    "llama": decoder("LlamaForCausalLM", "LlamaConfig"),
    "llama_cached": cached("LlamaForCausalLM", "LlamaConfig", 2),
    "mistral_cached": cached("MistralForCausalLM", "MistralConfig", 2, sliding_window=4),
    "qwen2": decoder("Qwen2ForCausalLM", "Qwen2Config"),
    "qwen3_cached": cached("Qwen3ForCausalLM", "Qwen3Config", 2, head_dim=16),
    "gemma2": decoder("Gemma2ForCausalLM", "Gemma2Config", head_dim=16, sliding_window=4),
    "gemma3": decoder("Gemma3ForCausalLM", "Gemma3TextConfig", head_dim=16, sliding_window=4),
    "olmo2": decoder("Olmo2ForCausalLM", "Olmo2Config"),
    "mixtral": decoder("MixtralForCausalLM", "MixtralConfig", num_local_experts=4),
    "qwen2_moe": decoder(
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig", num_experts=4, moe_intermediate_size=32,
        shared_expert_intermediate_size=32, num_experts_per_tok=2,
    ),
    "gpt_oss": decoder(
        "GptOssForCausalLM", "GptOssConfig", num_local_experts=4, num_experts_per_tok=2, head_dim=16, sliding_window=4,
    ),
    "mamba": lambda: (
        Keyword(
            hugging("MambaForCausalLM", "MambaConfig", SMALL, state_size=8, time_step_rank=4), ("input_ids",),
            use_cache=False,
        ),
        (tokens(),), (BATCH,),
    ),
    "t5": both("T5ForConditionalGeneration", "T5Config", d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4,
        decoder_start_token_id=0),
    "bart": both("BartModel", "BartConfig", **BART),
    "marian": both("MarianModel", "MarianConfig", **BART),
    "pegasus": both("PegasusModel", "PegasusConfig", **BART),
    "whisper": whisper,
    "wav2vec2": sound("Wav2Vec2Model", "Wav2Vec2Config", **SPEECH),
    "hubert": sound("HubertModel", "HubertConfig", **SPEECH),
    "vit": pictures("ViTModel", "ViTConfig", image_size=64, **PATCHES),
    "deit": pictures("DeiTModel", "DeiTConfig", image_size=64, **PATCHES),
    "beit": pictures("BeitModel", "BeitConfig", image_size=64, use_relative_position_bias=True, **PATCHES),
    "dinov2": pictures("Dinov2Model", "Dinov2Config", image_size=64, **PATCHES),
    "swin": pictures(
        "SwinModel", "SwinConfig", image_size=64, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4
    ),
    "convnext": pictures("ConvNextModel", "ConvNextConfig", hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1]),
    "segformer": pictures(
        "SegformerForSemanticSegmentation", "SegformerConfig", depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64],
        num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32,
    ),
    "resnet": pictures("ResNetModel", "ResNetConfig", embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2]),
    "clip": pair(
        "CLIPModel", "CLIPConfig", {**TEXT, "eos_token_id": VOCABULARY - 1},
        {**PATCHES, "image_size": 32, "projection_dim": 32}, projection_dim=32,
    ),
    "siglip": pair(
        "SiglipModel", "SiglipConfig", {**TEXT, "max_position_embeddings": 12, "eos_token_id": 3},
        {**PATCHES, "image_size": 32},
    ),
}  # fmt: skip

FAMILIES: dict[str, dict[str, Maker]] = {"torchvision": TORCHVISION, "timm": TIMM, "transformers": TRANSFORMERS}
