"""Ranks that hang: stopped, in an endless loop, at a file that does not answer. The watchdog must name the right one in
time, say where it stands, and end every rank.

  hangs.py BINARY FAULTS [--count N] [--slack SECONDS]      N of each kind, at random ranks and moments
"""
import os
import random
import re
import shutil
import signal
import time

from training import main, metrics_of, spread, wait_until

RANKS, SECONDS = 4, 6
KEYS = (f"--train.batch 2 --mesh.cp 2 --mesh.tp 2 --train.steps 1000 --checkpoint.every 3 --checkpoint.keep 2 "
        f"--watchdog.seconds {SECONDS}")
ALIVE, MAIN = "is alive and not waiting for anybody: ", "its main thread "
WRITER = "waits for another thread"  # a rank's own shard; rank 0's main thread writes what belongs to all
SAYS = {  # regular expressions
    "stop": "does not answer",
    "loop in pread": ALIVE + MAIN + "is running",
    "loop in fsync": ALIVE + MAIN + f"(is running|{WRITER})",
    "stall in pread": ALIVE + MAIN + "is in read of {pipe}",
    "stall in fsync": ALIVE + MAIN + f"({WRITER}, which )?is in read of {{pipe}}",
    "latest.new": ALIVE + MAIN + "is in open of {run}/latest.new",
}


class Hang:
    """One run, which hangs."""

    def __init__(self, place, arguments, kind):
        self.kind, self.rank = kind, random.randrange(RANKS)
        self.run, self.pipe = place.run("hanging"), place.directory / "pipe"
        shutil.rmtree(self.run, ignore_errors=True)
        self.began_file = place.directory / "pipe.began"
        self.began_file.unlink(missing_ok=True)
        if not self.pipe.exists():
            os.mkfifo(self.pipe)
        environment = {}
        if " in " in kind:
            what, call = kind.split(" in ")
            after = random.randrange(3, 60) if call == "pread" else random.randrange(1, 20)
            environment = {"LD_PRELOAD": arguments.faults,
                           "LEXRING_FAULT": f"{self.rank} {call} {after} {what} {self.pipe}"}
        self.launch = place.train("hanging", KEYS, RANKS, environment)

    def begin(self):
        """Lets it hang; False where it ended before."""
        running = self.launch.running
        if " in " in self.kind:
            wait_until(lambda: self.began_file.exists() or not running())
        else:
            wait_until(lambda: len(metrics_of(self.run)) > 2 or not running())
            time.sleep(random.uniform(0, 1))
        self.began = time.monotonic()
        if self.kind == "stop":
            os.kill(self.launch.rank(self.rank), signal.SIGSTOP)
        if self.kind == "latest.new":
            self.rank = 0  # which names the newest checkpoint; a pipe stands where it writes
            wait_until(lambda: self.make_pipe() or not running())
        return running()

    def make_pipe(self):
        try:
            os.mkfifo(self.run / "latest.new")
            return True
        except FileExistsError:
            return False

    def check(self, slack):
        """Seconds until the message, and what is wrong."""
        said = wait_until(lambda: self.launch.messages() or not self.launch.running(), SECONDS + slack + 30)
        seconds = time.monotonic() - self.began
        if self.kind == "latest.new":  # begins with the next save, after the last line of metrics
            seconds = time.time() - (self.run / "metrics.jsonl").stat().st_mtime
        code = self.launch.end(30)
        messages = self.launch.messages()
        expected = f"Rank {self.rank} " + SAYS[self.kind].format(pipe=self.pipe, run=self.run)
        wrong = []
        if len(messages) != 1 or not re.search(expected, messages[0]):
            wrong.append(f"expected one message with \"{expected}\": {self.launch.output()}")
        if not said or seconds > SECONDS + slack:
            wrong.append(f"said after {seconds:.1f} s")
        if code in (0, "hangs"):
            wrong.append(f"exit code {code}")
        if self.launch.left:
            wrong.append(f"of rank {self.launch.left} were left")
        return seconds, [f"{self.kind}: {what}" for what in wrong]


def measure(place, arguments):
    if not os.path.exists(arguments.faults):
        return [f"{arguments.faults} is not built"]
    failures, rows = [], []
    for kind in arguments.kinds.split(",") if arguments.kinds else SAYS:
        times = []
        bad = len(failures)
        while len(times) < arguments.count:
            hang = Hang(place, arguments, kind)
            if not hang.begin():
                code = hang.launch.end()
                if code == 0:
                    continue  # had done all its steps
                return failures + [f"{kind}: ended with {code} before it hung: {hang.launch.output()}"]
            seconds, wrong = hang.check(arguments.slack)
            times.append(seconds)
            failures += wrong
            print("".join(f"{what}\n" for what in wrong), end="", flush=True)
        rows.append(f"| {kind} | {len(times)} | {len(failures) - bad} | {spread(times, 1)} |")
        print(rows[-1], flush=True)
    print(f"watchdog.seconds {SECONDS}\n| hang | runs | failed | seconds to the message |\n|---|---|---|---|")
    print("\n".join(rows))
    return failures


if __name__ == "__main__":
    main(measure, __doc__, files=("faults",), count=20, slack=5, kinds="")
