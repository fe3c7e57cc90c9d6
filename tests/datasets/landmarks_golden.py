#!/usr/bin/env python3
"""Writes landmarks_golden.txt from insert_landmarks and landmark_targets of the reference: documents of random letters.

    python3 tests/datasets/landmarks_golden.py ../shared/reference > tests/datasets/landmarks_golden.txt

One seed and spacing a line: seed, tokens between landmarks, number of documents, their texts, number of tokens of the
stream with landmarks, these tokens, their targets where documents are ignored, and where they are masked from each
other. Tokens are bytes; 256 ends a document, 257 is the landmark.
"""
import random
import sys

sys.path.insert(0, sys.argv[1])
from lex_reference import insert_landmarks, landmark_targets

END, LANDMARK = 256, 257
for seed in range(10):
    draw = random.Random(seed)
    for every in draw.choice([1, 2]), draw.randint(3, 6), draw.randint(7, 40):
        lengths = [draw.randint(0, 3) * every - 1 + draw.randint(0, 1) * draw.randint(0, every) for _ in range(4)]
        texts = ["".join(draw.choice("abcdefgh") for _ in range(max(length, 1))) for length in lengths]
        stream = []
        for text in texts:
            stream += insert_landmarks([*text.encode(), END], every, LANDMARK)
        ignored, masked = (landmark_targets([*stream, -1], LANDMARK, end) for end in (None, END))
        print(seed, every, len(texts), *texts, len(stream), *stream, *ignored, *masked)
