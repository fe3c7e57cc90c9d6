#!/usr/bin/env python3
"""Training speed and memory beside a PyTorch script of the same model, in one run, alternating; prints a Markdown
table of medians.

    python3 tests/speed/compare.py --lexring build/release/lexring --peer PEER.py --peer-python PYTHON
        [--rounds 3] [--steps 5]

PEER.py takes --layers --width --heads --vocab --length --batch --dtype --steps --threads and prints one JSON line with
tokens_per_second and peak_mib. `start` is what each process holds before it builds a model.
"""
import argparse
import json
import os
import statistics
import subprocess

CASES = [(1024, 8, "fp32"), (8192, 1, "fp32"), (1024, 8, "bf16"), (8192, 1, "bf16")]
MODEL = dict(layers=6, width=384, heads=6, vocab=256)


def last_json(command, env):
    lines = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()
    return json.loads([line for line in lines if line.startswith("{")][-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--lexring", required=True)
    p.add_argument("--peer", required=True)
    p.add_argument("--peer-python", default="python3")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", default="", help="e.g. 8192-bf16")
    a = p.parse_args()
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    resident = "import torch, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    start = float(subprocess.run([a.peer_python, "-c", resident],
                                 env=env, check=True, capture_output=True, text=True).stdout)
    print("| length x batch | precision | lexring tokens/s | peer tokens/s | ratio "
          "| lexring peak MiB | peer peak MiB | ratio | ratio without start |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for length, batch, dtype in CASES:
        if a.only not in f"{length}-{dtype}":
            continue
        ours, theirs = [], []
        for _ in range(a.rounds):
            flags = [f"--model.{k}={v}" for k, v in MODEL.items()]
            ours.append(last_json([a.lexring, "bench", "--config", "configs/bench_cpu.ini", *flags,
                                   "--model.ffn_width", str(4 * MODEL["width"]), "--train.length", str(length),
                                   "--train.batch", str(batch), "--train.precision", dtype,
                                   "--steps", str(a.steps)], env))
            flags = [f"--{k}={v}" for k, v in MODEL.items()]
            theirs.append(last_json([a.peer_python, a.peer, *flags, "--length", str(length), "--batch", str(batch),
                                     "--dtype", dtype, "--steps", str(a.steps), "--threads", str(a.threads)], env))
        def median(runs, key):
            return statistics.median(run[key] for run in runs)
        speed, peer_speed = median(ours, "tokens_per_second"), median(theirs, "tokens_per_second")
        peak, peer_peak, held = median(ours, "peak_mib"), median(theirs, "peak_mib"), median(ours, "start_mib")
        print(f"| {length} x {batch} | {dtype} | {speed:,.0f} | {peer_speed:,.0f} | {speed / peer_speed:.2f} | "
              f"{peak:,.0f} | {peer_peak:,.0f} | {peak / peer_peak:.2f} | "
              f"{(peak - held) / (peer_peak - start):.2f} |", flush=True)


if __name__ == "__main__":
    main()
