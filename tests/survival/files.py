"""Disks and files that fail: each case must end with one message that says why, on every rank, and lose nothing.

  files.py BINARY FAULTS [--slack SECONDS]      from the fault to the end of all ranks
As root it also mounts a small tmpfs and becomes nobody; without, these cases are left out.
"""
import os
import pathlib
import re
import shutil
import subprocess
import time

from training import MODEL, Launch, main, metrics_of, steps_of, tensors_of, trajectory, wait_until

RANKS, STEPS = 4, 40
KEYS = (f"--train.batch 2 --mesh.cp 2 --mesh.tp 2 --train.steps {STEPS} --checkpoint.every 5 --checkpoint.keep 3 "
        "--watchdog.seconds 60 ")


class Case:
    """A run and what it must say. `wrong` has what was not as expected."""

    def __init__(self, place, name, expected, keys="", environment=None, directory=None, prefix=(),
                 limits=""):
        self.place, self.name, self.expected, self.wrong = place, name, expected, []
        self.run = pathlib.Path(directory) if directory else place.run(name)
        command = (f"{limits} {place.binary} train {MODEL} --data.train {place.data} "
                   f"--checkpoint.directory {self.run} {KEYS} {keys}")
        self.launch = Launch(command, RANKS, place.directory / f"{name}.log", environment, prefix)
        self.began = time.monotonic()

    def when(self, condition, disturb):
        """Disturbs the run when it has come so far."""
        wait_until(lambda: condition(self) or not self.launch.running())
        disturb()
        self.began = time.monotonic()
        return self

    def end(self):
        self.code = self.launch.end()
        self.seconds = self.launch.ended - self.began
        messages = self.said = self.launch.messages()
        if self.expected is None:
            if self.code != 0:
                self.wrong.append(f"ended with {self.code}: {self.launch.output()}")
            return self
        if len(messages) != 1 or not re.search(self.expected, messages[0]):
            self.wrong.append(f"expected one message with \"{self.expected}\": {self.launch.output()}")
        if self.code in (0, "hangs"):
            self.wrong.append(f"exit code {self.code}")
        if self.seconds > self.place.slack:
            self.wrong.append(f"ended after {self.seconds:.1f} s")
        return self

    def left(self):
        if self.launch.left:
            self.wrong.append(f"of rank {self.launch.left} were left")
        return self

    def goes_on(self, reference):
        """The same command, undisturbed, makes of what is left the run that it would have been."""
        launch = self.place.train(self.name, KEYS, RANKS)
        if launch.end() != 0:
            self.wrong.append(f"cannot go on: {launch.output()}")
        elif (tensors_of(self.run), trajectory(self.run)) != reference:
            self.wrong.append("goes on to another result")
        return self


def steps_done(count):
    return lambda case: len(metrics_of(case.run)) >= count


def mount(place, size):
    """A file system of `size`; None where that is not allowed."""
    path = place.directory / "small"
    path.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True).returncode:
        return None
    return path


def full_disks(place, reference):
    small = mount(place, "1M")
    if small is None:
        return
    try:
        (small / "rest").write_bytes(bytes(2**20 - 8192))
        yield "disk full at the start", Case(
            place, "full_start", "small/run.*(No space|cannot be written)", directory=small / "run").end().left()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def limits(place, reference):
    """A limit of the size of files (ulimit -f), as a quota has it; MPI's shared memory would not fit into it."""
    script = place.directory / "limited.sh"
    script.write_text("#!/bin/bash\nulimit -f 40\nexec \"$@\"\n")
    script.chmod(0o755)
    case = Case(place, "limited", "shard-000.*File too large", limits=str(script),
                environment={"OMPI_MCA_btl": "self,tcp"}).end().left()
    yield "files of at most 40 KiB", case.goes_on(reference)


def permissions(place, reference):
    if os.geteuid() != 0:
        return
    run = place.run("forbidden")
    run.mkdir()
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups".split()
    yield "run directory belongs to somebody else", Case(
        place, "forbidden", f"{run}.* (cannot be written|cannot be made)", prefix=nobody).end().left()
    finished = place.run("undisturbed") / f"step-{STEPS:08}" / "shard-0001.h5"
    copy = place.run("unreadable")
    shutil.copytree(place.run("undisturbed"), copy)
    subprocess.run(["chown", "-R", "65534:65534", copy], check=True)
    (copy / finished.parent.name / finished.name).chmod(0)
    case = Case(place, "unreadable", "shard-0001.h5: cannot open: Permission denied", prefix=nobody).end().left()
    if steps_of(copy)[-1] != STEPS:
        case.wrong.append("a checkpoint that may not be read was set aside")
    yield "a shard that may not be read", case


def data_files(place, reference):
    whole = place.data.read_bytes()
    keep = place.directory / "kept.h5"

    def restore():
        place.data.write_bytes(whole)

    case = Case(place, "data_deleted", None).when(steps_done(5), place.data.unlink).end().left()
    restore()
    if (tensors_of(case.run), trajectory(case.run)) != reference:
        case.wrong.append("another result")
    yield "data file deleted while training", case
    case = Case(place, "data_cut", "text.h5.*(ends|truncated|end of|shorter|read)").when(
        steps_done(5), lambda: os.truncate(place.data, 4096)).end().left()
    restore()
    yield "data file cut while training", case.goes_on(reference)
    os.truncate(place.data, len(whole) // 2)
    yield "data file cut before the start", Case(place, "data_half", "text.h5").end().left()
    place.data.unlink()
    yield "data file gone before the start", Case(place, "data_gone", "text.h5").end().left()
    restore()


def checkpoints(place, reference):
    run = place.run("no_manifest")
    Case(place, "no_manifest", None, keys="--train.steps 40").end()
    (run / f"step-{STEPS:08}" / "manifest.json").unlink()
    case = Case(place, "no_manifest", None).end().left()
    if "has no manifest.json" not in case.launch.output():
        case.wrong.append(f"says nothing of it: {case.launch.output()}")
    if (tensors_of(run), trajectory(run)) != reference:
        case.wrong.append("goes on to another result")
    yield "manifest of the newest checkpoint removed", case
    case = Case(place, "run_deleted", None).when(
        steps_done(8), lambda: shutil.rmtree(place.run("run_deleted"), ignore_errors=True)).end().left()
    if tensors_of(case.run) != reference[0]:
        case.wrong.append("another result")
    yield "run directory deleted while training", case


def clocks(place, reference):
    for name, seconds in (("an hour ahead", 3600), ("an hour back", -3600), ("ten years back", -315360000)):
        for rank in (0, 2):
            case = Case(place, f"clock_{seconds}_{rank}".replace("-", "m"), None,
                        environment={"LD_PRELOAD": place.faults, "LEXRING_CLOCK": f"{rank} {seconds} 20"}).end().left()
            if (tensors_of(case.run), trajectory(case.run)) != reference:
                case.wrong.append("another result")
            if any(not 0 <= line["seconds"] < 60 for line in metrics_of(case.run)):
                case.wrong.append("steps of another time")
            yield f"clock of rank {rank} jumps {name}", case


def measure(place, arguments):
    place.faults, place.slack = arguments.faults, arguments.slack
    place.undisturbed("undisturbed", KEYS, RANKS)
    reference = tensors_of(place.run("undisturbed")), trajectory(place.run("undisturbed"))
    failures, rows = [], []
    for cases in (full_disks, limits, permissions, data_files, checkpoints, clocks):
        for name, case in cases(place, reference):
            said = (case.said or ["-"])[0].replace(str(place.directory), "DIR")
            rows.append(f"| {name} | {case.code} | {case.seconds:.1f} | {said[:160]} | "
                        f"{'FAILED' if case.wrong else 'as expected'} |")
            print(rows[-1], flush=True)
            failures += [f"{name}: {what}" for what in case.wrong]
    print("| what | exit code | s | message | |\n|---|---|---|---|---|\n" + "\n".join(rows))
    return failures


if __name__ == "__main__":
    main(measure, __doc__, files=("faults",), slack=20)
