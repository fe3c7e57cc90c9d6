#!/usr/bin/env python3
"""Writes every_kind.h5: golden cases of golden.py, one of every kind, each on a model so small that all of them fit
into a repository.

    python3 small.py REFERENCE_DIR OUT.h5 [--seed N]

REFERENCE_DIR holds golden.py and lex_reference.py. What a case is about stays: positions, pattern, documents, norms,
biases, grouping of heads, and a length beyond the training length of 32; width, layers, vocabulary and batch shrink.
Weights are rounded to f32 first, so that they need half the bytes; large datasets are compressed.
"""
import argparse
import json
import sys
import tempfile
from dataclasses import replace

import h5py

KINDS = """
    lex llama hybrid_window_full xpos_spread pattern_window packed_sinks logn relu
    position_none position_sinusoidal position_learned position_rope position_alibi position_t5
    position_sandwich position_kerple_log position_kerple_power
    scaling_linear scaling_ntk scaling_yarn scaling_modulo scaling_repeat
    scaling_dynamic scaling_llama3 scaling_longrope partial_rotary_xpos p_rope
    forget_gate_rope forget_gate_packed ssmax_packed temperature floor_scale logit_softcap
    landmark landmark_packed cape_xpos cape_alibi
    gpt2 neox mistral qwen2 qwen3 head_width_sub_norm lora lora_long
""".split()
LENGTH = 40


def shrink(cfg, batch, extra):
    heads, kv_heads = (6, 2) if cfg.heads == 6 else (2, 1 if cfg.kv_heads < cfg.heads else 2)
    small = replace(cfg, vocab=29, layers=2 if cfg.override else 1, width=24 if heads == 6 else 16, heads=heads,
                    kv_heads=kv_heads, head_width=min(cfg.head_width, 10), ffn_width=24,
                    max_length=96 if cfg.position.kind == "learned" else 0)
    if cfg.attention.normalizer == "landmark":
        small.attention = replace(cfg.attention, landmark_token=small.vocab - 1)
    pairs = small.width // small.heads // 2
    small.position = replace(cfg.position, short_factor=cfg.position.short_factor[:pairs],
                             long_factor=cfg.position.long_factor[:pairs])
    rows = 2 if "masked_row" in extra else 1
    return small, min(batch, rows), LENGTH, extra


def pack(source, target):
    """Copies a golden file with compression, and with 32 bits where they lose nothing."""
    def copy(name, item):
        if isinstance(item, h5py.Group):
            group = target.require_group(name)
        else:
            values = item[()]
            kind = {"f": "f4", "i": "i4"}[values.dtype.kind]
            exact = (values.astype(kind).astype(values.dtype) == values).all()
            # Below 512 values a chunk costs more than it saves.
            packed = dict(compression=9, shuffle=True, chunks=values.shape) if values.size >= 512 else {}
            group = target.create_dataset(name, data=values.astype(kind) if exact else values, **packed)
        for key, value in item.attrs.items():
            group.attrs[key] = value
    source.visititems(copy)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    sys.path.insert(0, args.reference)
    sys.dont_write_bytecode = True
    import golden
    import torch
    torch.set_num_threads(1)
    whole = golden.random_parameters

    def in_f32(cfg, seed):
        return {name: value.detach().float().double().requires_grad_() for name, value in whole(cfg, seed).items()}

    golden.random_parameters = in_f32
    with tempfile.TemporaryFile() as file, h5py.File(file, "w") as full:
        for k, (name, cfg, batch, _, extra) in enumerate(golden.cases()):
            if name in KINDS:
                golden.write_case(full, name, *shrink(cfg, batch, extra), args.seed * 1000 + k)
        with h5py.File(args.out, "w") as out:
            pack(full, out)


if __name__ == "__main__":
    main()
