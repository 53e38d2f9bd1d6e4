"""A GGUF of a model in the `llama` form, in float32, for llama.cpp. Runs in the peers' environment:

PEERS/bin/python benchmarks/serve_gguf.py MODEL_DIRECTORY OUT.gguf
"""

import json
import sys
from pathlib import Path

import torch
from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
from safetensors.torch import load_file


def main() -> None:
    directory, out = Path(sys.argv[1]), sys.argv[2]
    config = json.loads((directory / "config.json").read_text())
    if config["model_type"] != "llama":
        raise SystemExit(f"model type {config['model_type']!r}: only llama is converted here")
    layers, heads, pairs = (config[f"num_{name}"] for name in ("hidden_layers", "attention_heads", "key_value_heads"))
    writer = GGUFWriter(out, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(pairs)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])

    # Of the ways to cut text that llama.cpp knows, Qwen2's gives the tokens that ours gives.
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    names = {id: name for name, id in tokenizer["model"]["vocab"].items()}
    names |= {id: token["content"] for id, token in added.items()}
    kinds = [
        TokenType.UNUSED if id not in names
        else TokenType.NORMAL if id not in added
        else TokenType.CONTROL if added[id]["special"] else TokenType.USER_DEFINED
        for id in range(config["vocab_size"])
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([names.get(id, f"[unused {id}]") for id in range(config["vocab_size"])])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(json.loads((directory / "tokenizer_config.json").read_text())["chat_template"])

    mapped = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
    for name, tensor in load_file(directory / "model.safetensors").items():
        rows = heads if "q_proj" in name else pairs if "k_proj" in name else 0
        if rows:  # llama.cpp rotates neighbours, where the checkpoint has the halves of a head
            tensor = tensor.view(rows, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(mapped.get_name(name, try_suffixes=(".weight",)), tensor.to(torch.float32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
