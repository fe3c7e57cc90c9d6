#!/usr/bin/env python3
"""Byte-level BPE in the layouts that models have: ids and speed of `lexring prepare` against Hugging Face's tokenizers.
See README.md beside this file."""
import argparse
import importlib.util
import io
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time
import unicodedata

import h5py
import numpy as np
import zstandard
from tokenizers import Tokenizer

# The layouts are those of the committed fixture.
fixture = pathlib.Path(__file__).parents[1] / "datasets/tokenizers/bpe_golden.py"
spec = importlib.util.spec_from_file_location("bpe_golden", fixture)
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)

RANGES = [(0x4e00, 0x9fff), (0x600, 0x6ff), (0x1f300, 0x1faff), (0x900, 0x97f), (0xac00, 0xd7a3), (0x300, 0x36f),
          (0x400, 0x4ff), (0x3040, 0x30ff), (0, 0x20), (0x80, 0x100), (0x2000, 0x206f), (0xe00, 0xe7f),
          (0x1d400, 0x1d7ff), (0x2460, 0x24ff), (0xfe00, 0xfe0f)]
ASCII = "abc XYZ  \t\n\r 0123 .,!?'\"()-_'s'll'RE \u00a0\u3000\u0085\u180e\u200b\u200d\u017f\ufffd"


def texts_of(paths):
    for path in paths:
        opened = open(path, "rb")
        stream = zstandard.ZstdDecompressor().stream_reader(opened) if path.endswith(".zst") else opened
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)["text"]


def mixed(draw, pools, length):
    text = ""
    while len(text) < length:
        pool = draw.choice(pools) if draw.random() < 0.6 else ASCII
        text += "".join(draw.choice(pool) for _ in range(draw.randint(1, 9))) + (" " if draw.random() < 0.3 else "")
    return text


def write_corpora(args):
    draw = random.Random(5)
    pools = ["".join(chr(c) for c in range(first, last) if unicodedata.category(chr(c)) not in ("Cn", "Cs"))
             for first, last in RANGES]
    sources = [path.read_text() for path in sorted(pathlib.Path(__file__).parents[2].glob("framework/**/*.cpp"))]
    size, limit = 0, args.mb * 10**6
    with open(args.place / "mixed.jsonl", "w", encoding="utf-8") as file:
        def put(text):
            nonlocal size
            for at in range(0, len(text), 200000):
                if size < limit:
                    file.write(json.dumps({"text": text[at:at + 200000]}) + "\n")
                    size += len(text[at:at + 200000].encode())
        for source in sources:
            put(source)
        for _ in range(50 * args.mb):
            if size < limit / 3:
                put(mixed(draw, pools, 5000))
        for text in texts_of(args.texts):
            put(text)
    with open(args.place / "fuzz.jsonl", "w", encoding="utf-8") as file:
        for _ in range(args.fuzz):
            file.write(json.dumps({"text": mixed(draw, pools, draw.randint(1, 12))}) + "\n")
    print(f"{size / 1e6:.1f} MB of mixed text, {args.fuzz} short strings", flush=True)


def theirs(tokenizer, path):
    texts = [json.loads(line)["text"] for line in open(path, encoding="utf-8")]
    ids, start = [], time.monotonic()
    for at in range(0, len(texts), 2000):
        for encoded in tokenizer.encode_batch(texts[at:at + 2000], add_special_tokens=False):
            ids.append(np.array(encoded.ids + [0], dtype=np.uint32))
    return np.concatenate(ids), sum(len(text.encode()) for text in texts) / 1e6 / (time.monotonic() - start)


def ours(args, tokenizer, path):
    made = subprocess.run([args.binary, "prepare", "--overwrite", "--tokenizer", tokenizer, "--input", path, "--output",
                           args.place / "ids.h5", "--threads", str(os.cpu_count())],
                          capture_output=True, text=True, check=True)
    return h5py.File(args.place / "ids.h5")["tokens"][:].astype(np.uint32), float(
        re.search(r"([0-9.]+) MB/s", made.stdout)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--place", required=True, type=pathlib.Path)
    parser.add_argument("--mb", type=int, default=50)
    parser.add_argument("--fuzz", type=int, default=1000000)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("texts", nargs="+")
    args = parser.parse_args()
    write_corpora(args)
    sample = "".join(json.loads(line)["text"] for _, line in zip(range(40), open(args.place / "mixed.jsonl")))
    failed = False
    for name, layout in golden.LAYOUTS.items():
        file = args.place / f"{name}.json"
        tokenizer = golden.train(sample, vocabulary=args.vocabulary, **layout)
        tokenizer.save(str(file))
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.encode_special_tokens = True
        for corpus in ("mixed", "fuzz"):
            path = args.place / f"{corpus}.jsonl"
            (other, their_speed), (own, our_speed) = theirs(tokenizer, path), ours(args, file, path)
            same = len(own) == len(other) and bool((own == other).all())
            failed |= not same
            print(f"{name:10} {corpus:6} {len(own):10} ids {'equal' if same else 'DIFFERENT'}  "
                  f"lexring {our_speed:6.1f} MB/s, tokenizers {their_speed:6.1f} MB/s", flush=True)
    sys.exit(failed)


main()
