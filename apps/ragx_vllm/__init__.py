"""A vLLM plugin that serves CEPE readers. vLLM finds it through the entry-point group `vllm.general_plugins`."""

from __future__ import annotations

ARCHITECTURES = {
    "llama": "RagxCepeLlamaForCausalLM",
    "mistral": "RagxCepeLlamaForCausalLM",
    "qwen2": "RagxCepeQwen2ForCausalLM",
    "qwen3": "RagxCepeQwen3ForCausalLM",
}
"""By the decoder's model type, the name in `config.json` under which vLLM finds the reader's class in `model.py`."""


def register() -> None:
    """Tell vLLM the names of the model classes. vLLM calls this in each of its processes, and imports them on use."""
    from vllm import ModelRegistry

    known = ModelRegistry.get_supported_archs()
    for name in sorted(set(ARCHITECTURES.values())):
        if name not in known:
            ModelRegistry.register_model(name, f"ragx_vllm.model:{name}")
