"""What a start costs by number of ranks: seconds to the first step, files opened, messages sent. Needs strace.

  starts.py BINARY FAULTS [--most RANKS]      1, 2, 4, 8, 16 and 64 ranks, up to that
"""
import collections
import pathlib
import re
import shutil

from training import MODEL, Launch, main, metrics_of, read, wait_until

KEYS = "--train.batch 64 --optimizer.schedule constant --watchdog.seconds 0 "
FILES = ("text.h5", "run.ini", "manifest.json", "latest", "shard-", "checkpoint.h5", "metrics.jsonl")


def opened(directory):
    """How often all ranks together opened what, by the end of its name."""
    counts = collections.Counter()
    for file in pathlib.Path(directory).iterdir():
        for path in re.findall(r'open(?:at)?\((?:[^,]*, )?"([^"]*)"', read(file)):
            kind = next((kind for kind in FILES if kind in path), None)
            counts[kind or ("libraries" if ".so" in path else "/proc, /sys" if path[:5] in ("/proc", "/sys/") else
                            "other")] += 1
    return counts


def measure(place, arguments):
    config = place.directory / "run.ini"
    config.write_text("[train]\nsteps = 2\n")
    place.undisturbed("first", f"{KEYS} --train.steps 2", 1)
    rows, kinds = [], FILES + ("libraries", "/proc, /sys", "other")
    for ranks in (ranks for ranks in (1, 2, 4, 8, 16, 64) if ranks <= arguments.most):
        run = place.run(f"run{ranks}")
        shutil.copytree(place.run("first"), run)
        launch = place.train(run.name, f"{KEYS} --train.steps 3", ranks)
        wait_until(lambda: len(metrics_of(run)) == 3 or not launch.running(), 600)
        seconds = launch.seconds()
        if launch.end(600) != 0:
            return [f"{ranks} ranks: {launch.output()}"]
        shutil.rmtree(run)
        shutil.copytree(place.run("first"), run)  # all its steps are done: it starts, reads everything, and ends
        traces, messages = place.directory / f"traces{ranks}", place.directory / f"messages{ranks}"
        traces.mkdir()
        messages.mkdir()
        command = (f"strace -f -qq --seccomp-bpf -e trace=open,openat -ff -o {traces}/trace {place.binary} train "
                   f"{MODEL} --config {config} --data.train {place.data} --checkpoint.directory {run} {KEYS}")
        traced = Launch(command, ranks, place.directory / "traced.log",
                        {"LD_PRELOAD": arguments.faults, "LEXRING_MESSAGES": messages})
        if traced.end(600) != 0:
            return [f"{ranks} ranks: {traced.output()}"]
        counts = opened(traces)
        sent = [tuple(map(int, read(file).split())) for file in messages.iterdir()] or [(0, 0)]
        rows.append(f"| {ranks} | {seconds:.1f} | {sum(count for count, _ in sent)} | {max(sent)[0]} | "
                    f"{sum(size for _, size in sent) / 1e3:.0f} | " +
                    " | ".join(str(counts[kind]) for kind in kinds) + " |")
        print(rows[-1], flush=True)
    print("| ranks | s to the first step | messages | most of a rank | kB | opened, all ranks: " + " | ".join(kinds) +
          " |\n" + "|---" * (5 + len(kinds)) + "|\n" + "\n".join(rows))
    return []


if __name__ == "__main__":
    main(measure, __doc__, files=("faults",), most=64)
