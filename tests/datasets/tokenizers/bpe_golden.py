#!/usr/bin/env python3
"""Writes bpe_golden.json: small byte-level BPE tokenizers in the layouts that models have, hard texts, and the ids that
Hugging Face's tokenizers gives them (pip install tokenizers). Usage: bpe_golden.py TEXT_FILE > bpe_golden.json"""
import json
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def cut_by(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2():
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


LAYOUTS = {
    "gpt2": dict(words=gpt2()),
    "llama3": dict(words=cut_by(CONTRACTIONS + r"\p{N}{1,3}" + REST), ignore_merges=True),
    "qwen": dict(words=cut_by(CONTRACTIONS + r"\p{N}" + REST), normalizer=normalizers.NFC()),
    "neox": dict(words=gpt2(), normalizer=normalizers.NFC(),
                 added=[AddedToken(" " * n, normalized=True, special=False) for n in range(24, 1, -1)]),
    "starcoder": dict(words=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2()]),
                      added=[AddedToken("<code>", normalized=False, special=False)]),
    "prefix": dict(words=pre_tokenizers.ByteLevel(add_prefix_space=True),
                   normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.NFC()])),
}


def train(text, words, ignore_merges=False, normalizer=None, added=(), vocabulary=512):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = words, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.add_tokens(list(added))
    return tokenizer


def hard_texts():
    texts = ["", " ", "  ", "\n", "\r\n\r\n", " \n x", "a  b   c", "tabs\t\tand\t spaces ", "I'm WE'LL they'Re it'S 'S",
             "don\u2019t", "1 12 123 1234 12345678901", "\u0661\u0662\u0663 \u00bd \u2167 \u00b2",
             "na\u00efve nai\u0308ve \u00c5 A\u030a \u212b \ufb01", "\u4f60\u597d\uff0c\u4e16\u754c\u3002",
             "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645",
             "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466!",
             "e\u0301\u0323\u0327 combining \u0300", "\x00\x01\x7f\x1b[0m",
             "\u180e\u200b\u00a0\u2003\u3000\u0085x\u2028y", "\u017fs '\u017f", "x" * 300, " " * 70 + "x",
             "<|endoftext|> is text", "<code> if x </code><code><code>", "\ufffd broken",
             "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass\n", "a\n\nb\n \nc", "...!?\n\n--",
             "http://example.org/?q=1&r=%20", "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
             "\u0939\u093f\u0928\u094d\u0926\u0940"]
    draw = random.Random(7)
    ranges = [(0x20, 0x7e)] * 5 + [
        (0x4e00, 0x9fff), (0x600, 0x6ff), (0x1f300, 0x1faff), (0xac00, 0xd7a3), (0x300, 0x36f), (0x1d400, 0x1d7ff),
        (0, 0x20), (0x80, 0x100), (0x2000, 0x206f), (0x1e00, 0x1eff)]
    while len(texts) < 180:
        text = ""
        for _ in range(draw.randint(1, 12)):
            first, last = draw.choice(ranges)
            text += "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, 6)))
            text += " " * draw.randint(0, 2)
        # What Unicode had not assigned in version 14 may be cut differently by newer tables.
        texts.append("".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs")))
    return texts


def main():
    text = open(sys.argv[1], encoding="utf-8").read()[:1000000]
    texts = hard_texts()
    file = {"texts": texts, "tokenizers": {}}
    for name, layout in LAYOUTS.items():
        tokenizer = train(text, **layout)
        tokenizer.encode_special_tokens = True  # those in a text are text
        ids = [tokenizer.encode(one, add_special_tokens=False).ids for one in texts]
        file["tokenizers"][name] = {"tokenizer": json.loads(tokenizer.to_str()), "ids": ids}
    json.dump(file, sys.stdout, ensure_ascii=True, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
