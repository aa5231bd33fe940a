"""`brainmri serve` asked by several people at once: python bench/serve.py [--people 8] [--requests 200]

Each person asks for one test image after another, each with the heat map that the page shows beside it, over loopback.
Writes bench/results/serve.json: the seconds of answers and of heat maps, errors, and the server's memory.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from stages.files import write_json  # noqa: E402
from stages.shell import provenance  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--study", type=Path, default=ROOT)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/serve.json")
    return parser.parse_args()


def ask(url: str, path: Path) -> dict[str, Any]:
    """Return the seconds until an answer and its heat map are there, or what went wrong."""
    begun = time.perf_counter()
    try:
        form: list[Any] = [("names", (None, json.dumps([path.name]))), ("file", ("file", path.read_bytes()))]
        answer = requests.post(f"{url}ask", files=form, timeout=120)
        said = json.loads(answer.text)
        answered = time.perf_counter()
        seen = base64.b64decode(said["seen"])
        requests.post(f"{url}heat", params={"class": said["predicted"]}, data=seen, timeout=120).raise_for_status()
    except (requests.RequestException, ValueError, KeyError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"answer": answered - begun, "heat map": time.perf_counter() - answered}


def seconds(found: list[float]) -> dict[str, float]:
    """Return median, 95 % quantile and worst."""
    ordered = sorted(found)
    return {
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
        "worst": round(ordered[-1], 3),
    }


def memory(process: int) -> int:
    """Return a process's resident MiB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def main() -> None:
    args = arguments()
    paths = sorted((args.study / "data/raw/Testing").glob("*/*"))
    words = [sys.executable, "-m", "commands", "serve", "--study", str(args.study), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment, text=True, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            url = server.stdout.readline().split()[1]
            for path in paths[: args.people]:
                ask(url, path)
            asked = [paths[place * 7 % len(paths)] for place in range(args.requests)]
            before, begun = memory(server.pid), time.perf_counter()
            with ThreadPoolExecutor(args.people) as people:
                found = list(people.map(lambda path: ask(url, path), asked))
            wall, after = time.perf_counter() - begun, memory(server.pid)
        finally:
            server.terminate()
    good = [each for each in found if "error" not in each]
    result = {
        "cpu": provenance.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "people": args.people,
        "requests": args.requests,
        "errors": [each["error"] for each in found if "error" in each],
        "seconds": {name: seconds([each[name] for each in good]) for name in ("answer", "heat map")} if good else None,
        "answers_per_second": round(len(good) / wall, 2),
        "server_mib": {"before": before, "after": after},
    }
    write_json(args.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
