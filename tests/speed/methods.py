#!/usr/bin/env python3
"""Training time of each position method and score rule relative to `position.kind = none`, in one run, alternating;
prints a Markdown table: the median over rounds of the ratio of neighbours.

    python3 tests/speed/methods.py --lexring build/release/lexring
        [--precision bf16] [--lengths 1024,8192] [--rounds 3] [--steps 5] [--only alibi,t5]
"""
import argparse
import os
import statistics

from compare import MODEL, last_json

METHODS = {
    "none again": ["--position.kind=none"],  # what the machine itself does to a ratio
    "rope": ["--position.kind=rope"],
    "rope on half of the channels": ["--position.kind=rope", "--position.partial_rotary_factor=0.5"],
    "p-rope": ["--position.kind=rope", "--position.p_rope=0.75"],
    "yarn": ["--position.kind=rope", "--position.scaling=yarn", "--position.scaling_factor=4",
             "--position.original_length=256"],
    "xpos": ["--position.kind=xpos"],
    "sinusoidal": ["--position.kind=sinusoidal"],
    "alibi": ["--position.kind=alibi"],
    "t5": ["--position.kind=t5"],
    "sandwich": ["--position.kind=sandwich"],
    "kerple_log": ["--position.kind=kerple_log"],
    "kerple_power": ["--position.kind=kerple_power"],
    "fire": ["--position.kind=fire"],
    "forget gate": ["--position.kind=none", "--attention.forget_gate=true"],
    "rope with log-n": ["--position.kind=rope", "--attention.logn_base=512"],
    "rope with ssmax": ["--position.kind=rope", "--attention.ssmax=true"],
    "rope with floor scale": ["--position.kind=rope", "--attention.floor_scale=512"],
    "rope with softcap": ["--position.kind=rope", "--attention.softcap=20"],
    "rope with logit softcap": ["--position.kind=rope", "--model.logit_softcap=30"],
    "rope with relu": ["--position.kind=rope", "--attention.normalizer=relu"],
}
TOKENS = 8192  # of a step


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--lexring", required=True)
    p.add_argument("--precision", default="bf16")
    p.add_argument("--lengths", default="1024,8192")
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", default="", help="names, separated by commas")
    a = p.parse_args()
    lengths = [int(n) for n in a.lengths.split(",")]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))

    def seconds(length, method):
        flags = [f"--model.{k}={v}" for k, v in dict(MODEL, layers=a.layers).items()]
        flags += [f"--model.ffn_width={4 * MODEL['width']}", f"--train.length={length}",
                  f"--train.batch={max(1, TOKENS // length)}", f"--train.precision={a.precision}",
                  f"--steps={a.steps}"]
        return last_json([a.lexring, "bench", "--config", "configs/bench_cpu.ini", *flags, *method],
                         env)["seconds_per_step"]

    print("| method | " + " | ".join(f"{length} tokens: ratio | of {a.rounds} rounds" for length in lengths) + " |")
    print("|---" * (1 + 2 * len(lengths)) + "|", flush=True)
    for name, method in METHODS.items():
        if a.only and name not in a.only.split(","):
            continue
        row = []
        for length in lengths:
            ratios = []
            for _ in range(a.rounds):
                none = seconds(length, ["--position.kind=none"])
                ratios.append(seconds(length, method) / none)
            row += [f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}"]
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
