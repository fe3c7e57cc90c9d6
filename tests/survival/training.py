"""A tiny training run under mpirun whose ranks can be found, disturbed and compared. Python's standard library only."""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

SETTINGS = {  # any number of ranks on any machine, as root too
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}
MODEL = ("--device cpu --train.precision fp32 --model.layers 1 --model.width 32 --model.heads 2 --train.length 32 "
         "--optimizer.warmup 3 --optimizer.lr 0.01 ")
LONG = 300  # seconds after which something hangs; on a busy machine a start takes many


def read(path):
    """What a file of /proc or of a run holds; nothing where it is gone."""
    try:
        return pathlib.Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def wait_until(condition, seconds=LONG, pause=0.002):
    """The first true value of `condition`; what it last was after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(pause)
    return value


class Launch:
    """A command under mpirun, with its output in a file; `environment` is for the ranks alone, `prefix` comes first."""

    def __init__(self, command, ranks, log, environment=None, prefix=()):
        self.ranks = ranks
        self.log = pathlib.Path(log)
        self.mark = uuid.uuid4().hex  # every process of it has this in its environment
        settings = {**os.environ, **SETTINGS, "LEXRING_SURVIVAL_MARK": self.mark}
        words = [*prefix, "mpirun", "-n", str(ranks), "env"]
        words += [f"{name}={value}" for name, value in (environment or {}).items()]
        with open(self.log, "wb") as output:
            self.start = time.monotonic()
            self.process = subprocess.Popen(words + command.split(), stdout=output, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL, env=settings, start_new_session=True)

    def processes(self):
        """Of this launch, also those whose parents have gone: {process: rank, or None for a launcher}."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and self.mark in (environment := read(f"/proc/{entry}/environ")):
                if read(f"/proc/{entry}/stat").rpartition(")")[2].split()[:1] == ["Z"]:
                    continue
                ranks = [word[21:] for word in environment.split("\0") if word.startswith("OMPI_COMM_WORLD_RANK=")]
                found[int(entry)] = int(ranks[0]) if ranks else None
        return found

    def rank(self, number):
        """The process of a rank; None before it has started and after it has ended."""
        return next((process for process, rank in self.processes().items() if rank == number), None)

    def running(self):
        return self.process.poll() is None

    def seconds(self):
        return time.monotonic() - self.start

    def end(self, seconds=LONG):
        """Waits; exit code, or "hangs". Whoever is left is ended, its rank in `left`.

        Open MPI 4.1's mpirun may wait for itself for ever when a rank is killed while it starts: that no rank has been
        there for 20 s is "mpirun hangs"."""
        end, alone = time.monotonic() + seconds, time.monotonic()
        while self.running() and time.monotonic() < min(end, alone + 20):
            if any(rank is not None for rank in self.processes().values()):
                alone = time.monotonic()
            time.sleep(0.02)
        code = self.process.poll()
        if code is None:
            code = "hangs" if time.monotonic() >= end else "mpirun hangs"
        self.ended = time.monotonic()
        wait_until(lambda: not self.processes(), 0 if str(code).endswith("hangs") else 10, 0.05)
        self.left = list(self.processes().values())
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.process.wait()
        return code

    def output(self):
        return read(self.log)

    def messages(self):
        """What lexring said of its end."""
        return [line for line in self.output().splitlines() if line.startswith("lexring: ")]


class Workplace:
    """A directory with a data set, in which runs are started."""

    def __init__(self, binary, directory):
        self.binary, self.directory = str(pathlib.Path(binary).resolve()), pathlib.Path(directory)
        self.data = self.directory / "text.h5"
        words = "ring attention chunk halo rank the of a passes keys".split()
        draw = random.Random(7)
        text = self.directory / "text.txt"
        text.write_text(" ".join(draw.choice(words) for _ in range(8000)) + "\n")
        subprocess.run([self.binary, "prepare", "--input", text, "--output", self.data], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, name):
        return self.directory / name

    def train(self, name, keys, ranks, environment=None):
        return Launch(f"{self.binary} train {MODEL} --data.train {self.data} --checkpoint.directory {self.run(name)} "
                      + keys, ranks, self.directory / f"{name}.log", environment)

    def undisturbed(self, name, keys, ranks):
        """Trains to the end; seconds."""
        launch = self.train(name, keys, ranks)
        if launch.end() != 0:
            sys.exit(f"the undisturbed run failed:\n{launch.output()}")
        return launch.ended - launch.start


def steps_of(run):
    """Complete checkpoints of a run, as numbers, in order."""
    return sorted(int(entry.parent.name[5:]) for entry in pathlib.Path(run).glob("step-*/manifest.json")
                  if entry.parent.name[5:].isdigit())


def tensors_of(run, step=None):
    """What a checkpoint's tensors are, to the bit: places and checksums of the shards that hold them."""
    step = steps_of(run)[-1] if step is None else step
    manifest = json.loads(read(pathlib.Path(run) / f"step-{step:08}" / "manifest.json"))
    shards = [file for file in manifest["files"] if file["name"].startswith("shard-")]
    return manifest["tensors"], shards, manifest["state"]["samples"]


def metrics_of(run):
    lines = read(pathlib.Path(run) / "metrics.jsonl").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def trajectory(run):
    """Step, losses and norm of every step, all digits."""
    return [[line.get(name) for name in ("step", "loss", "gradient_norm", "lr", "valid_loss")]
            for line in metrics_of(run)]


def debris(run):
    """Names in a run's directory that a finished run does not have."""
    known = {".lock", "config.ini", "latest", "metrics.jsonl", "status.json", "history.jsonl"}
    return sorted(path.name for path in pathlib.Path(run).iterdir()
                  if path.name not in known and not (path.name[:5] == "step-" and path.name[5:].isdigit()))


def spread(values, digits=2):
    """'median (smallest to largest)'"""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(measure, what, files=(), **keys):
    """Reads `BINARY [FILE ...] [--KEY value ...]` and calls measure(workplace, arguments), which returns what went
    wrong, as sentences."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="lexring")
    for name in files:
        parser.add_argument(name, type=os.path.abspath)
    for name, value in keys.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--keep", action="store_true", help="leave the runs where they are, and say where")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="lexring_survival_")
    os.chmod(directory, 0o755)
    random.seed(arguments.seed)
    try:
        failures = measure(Workplace(arguments.binary, directory), arguments)
    finally:
        if arguments.keep:
            print(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for failure in failures:
        print("FAILED:", failure)
    if failures:
        print(f"{len(failures)} failed; --seed {arguments.seed} draws the same moments")
    sys.exit(1 if failures else 0)
