"""Adds up the outcomes of cargo-mutants: mutants-score.py THRESHOLD OUTCOMES.json..."""

import collections
import json
import sys

threshold, files = float(sys.argv[1]), sys.argv[2:]
counts = collections.Counter()
missed = []
for file in files:
    with open(file, encoding="utf-8") as text:
        for outcome in json.load(text)["outcomes"]:
            if outcome["scenario"] == "Baseline":
                continue
            counts[outcome["summary"]] += 1
            if outcome["summary"] == "MissedMutant":
                missed.append(outcome["scenario"]["Mutant"]["name"])

# A change that makes the tests run for ever was noticed too. One that does not compile says nothing.
caught = counts["CaughtMutant"] + counts["Timeout"]
viable = caught + counts["MissedMutant"]
for name in sorted(missed):
    print(f"missed: {name}")
if not viable:
    sys.exit("error: no viable mutants in " + ", ".join(files))
score = 100 * caught / viable
print(
    f"{viable} viable mutants in {len(files)} shards: {caught} caught ({counts['Timeout']} by time), "
    f"{counts['MissedMutant']} missed, {counts['Unviable']} did not compile"
)
print(f"score {score:.1f} %, at least {threshold:g} % wanted")
sys.exit(score < threshold)
