"""kill -9 on a random rank at a random moment of the whole run, start included; the same command goes on, until the run
is done. It must then be the undisturbed run: tensors and losses to the bit, nothing left over.

  kills.py BINARY [--kills N] [--launcher N]      --launcher: of so many more, mpirun itself is killed
"""
import os
import random
import shutil
import signal
import time

from training import debris, main, metrics_of, read, spread, steps_of, tensors_of, trajectory, wait_until

RANKS, STEPS = 4, 16
KEYS = (f"--train.batch 2 --mesh.cp 2 --mesh.tp 2 --train.steps {STEPS} --checkpoint.every 2 --checkpoint.keep 2 "
        "--data.valid {data} --train.valid_every 5 --train.valid_windows 4 --watchdog.seconds 60")


def kill_at_random(launch, run, longest, launcher):
    """The phase in which it was; None where the run ended first."""
    metrics = run / "metrics.jsonl"
    before = read(metrics)
    time.sleep(random.uniform(0, longest))
    victim = launch.process.pid if launcher else wait_until(
        lambda: launch.rank(random.randrange(RANKS)) or not launch.running())
    phase = "start" if read(metrics) == before else "save" if any(run.glob("*.partial")) else "step or validation"
    if not launch.running() or victim is True:
        return None
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return phase


class Record:
    """Of all kills: by phase, what they cost; and what was not as it must be."""

    def __init__(self):
        self.lost = {"start": [], "step or validation": [], "save": []}  # steps
        self.ending, self.starting = [], []  # seconds
        self.finished, self.failures = 0, []
        self.launchers = 0  # mpirun's that never ended although all ranks had

    def kills(self):
        return sum(map(len, self.lost.values()))

    def fail(self, what):
        self.failures.append(f"after kill {self.kills()}: {what}")
        print(self.failures[-1], flush=True)

    def show(self, longest):
        print(f"{self.kills()} kills, {self.finished} runs finished, {len(self.failures)} failures; undisturbed "
              f"{longest:.1f} s; mpirun itself hung {self.launchers} times")
        print(f"lost to every kill: {spread(self.ending)} s until all ranks had ended, {spread(self.starting)} s of")
        print("each start that are no steps (start-up, validation, last save), and steps:")
        print("| killed in | kills | steps lost: mean | most |\n|---|---|---|---|")
        for phase, lost in self.lost.items():
            print(f"| {phase} | {len(lost)} | {sum(lost) / max(1, len(lost)):.1f} | {max(lost, default=0)} |")


def check_finished(run, expected, record, launch, code):
    record.finished += 1
    if code != 0:
        record.fail(f"the same command ended with {code}:\n{launch.output()}")
    elif trajectory(run) != expected[1]:
        record.fail("other losses")
    elif tensors_of(run) != expected[0]:
        record.fail("other tensors")
    elif debris(run):
        record.fail(f"left over: {debris(run)}")


def measure(place, arguments):
    keys = KEYS.format(data=place.data)
    longest = place.undisturbed("undisturbed", keys, RANKS)
    expected = tensors_of(place.run("undisturbed")), trajectory(place.run("undisturbed"))
    record, run, done = Record(), place.run("killed"), False
    while not done:
        before = metrics_of(run)
        launch = place.train("killed", keys, RANKS)
        done = record.kills() >= arguments.kills + arguments.launcher
        phase = None if done else kill_at_random(launch, run, longest, record.kills() >= arguments.kills)
        killed = time.monotonic()
        code = launch.end()
        if phase and code == "mpirun hangs":
            record.launchers += 1
        elif launch.left:
            record.fail(f"of rank (None: mpirun) {launch.left} were left")
        if phase:  # of a run that had saved its last step, too
            steps = metrics_of(run)
            lost = steps[-1]["step"] - (steps_of(run) or [0])[-1] if steps and steps != before else 0
            record.lost[phase].append(lost)
            if record.kills() % 20 == 0:
                print(f"{record.kills()} kills, {len(record.failures)} failures", flush=True)
            record.ending.append(launch.ended - killed)
            if code == 0:
                record.fail(f"ended with 0: {launch.output()}")
        else:
            check_finished(run, expected, record, launch, code)
            work = sum(line["seconds"] for line in metrics_of(run) if line not in before)
            record.starting.append(launch.ended - launch.start - work)
            shutil.rmtree(run, ignore_errors=True)
    record.show(longest)
    return record.failures


if __name__ == "__main__":
    main(measure, __doc__, kills=200, launcher=0)
