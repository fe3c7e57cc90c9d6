"""A run that goes on with other numbers of ranks, 4, 2, 3 and 4 again: its losses are the undisturbed run's, to
rounding.

  meshes.py BINARY
"""
from training import main, metrics_of

KEYS = "--train.batch 6 --optimizer.schedule constant --checkpoint.every 10 "
LIMIT = 1e-5  # relative
WAYS = {
    "sequence": [(4, "--mesh.cp 2 --mesh.tp 2"), (2, "--mesh.cp 2"), (3, "--mesh.cp 3"), (4, "--mesh.cp 4")],
    "replicas": [(4, "--mesh.tp 2"), (2, "--mesh.tp 2"), (3, ""), (4, "--mesh.tp 2")],
    "sharded": [(4, "--optimizer.shard gradients --mesh.cp 4"), (2, "--optimizer.shard gradients"),
                (3, "--optimizer.shard gradients"), (4, "--optimizer.shard gradients --mesh.cp 2 --mesh.tp 2")],
}
STEPS = 10  # with each number of ranks


def measure(place, _):
    failures, rows = [], []
    for way, stages in WAYS.items():
        ranks, mesh = stages[0]
        place.undisturbed(f"undisturbed_{way}", f"{KEYS} {mesh} --train.steps {STEPS * len(stages)}", ranks)
        expected = [line["loss"] for line in metrics_of(place.run(f"undisturbed_{way}"))]
        for stage, (ranks, mesh) in enumerate(stages):
            launch = place.train(way, f"{KEYS} {mesh} --train.steps {STEPS * (stage + 1)}", ranks)
            if launch.end() != 0:
                return failures + [f"{way}, {ranks} ranks {mesh}: {launch.output()}"]
        losses = [line["loss"] for line in metrics_of(place.run(way))]
        worst = max(abs(loss - other) / other for loss, other in zip(losses, expected, strict=True))
        rows.append(f"| {' -> '.join(f'{ranks} ({mesh})' for ranks, mesh in stages)} | {len(losses)} | {worst:.1e} |")
        if not worst <= LIMIT:
            failures.append(f"{way}: losses differ by {worst}")
    print("| ranks | steps | largest relative difference of a loss |\n|---|---|---|\n" + "\n".join(rows))
    return failures


if __name__ == "__main__":
    main(measure, __doc__)
