"""How much memory does the export of a large model take, in multiples of its weights?

    python -m experiments.export_memory.run TOKENIZER --layers 24 --width 1024 --vocabulary 250002 --output FOLDER

An XLM-R with random weights, of any size, with the tokenizer of a checkpoint (which may know fewer pieces). Each
precision is exported by a process of its own, whose memory is looked at every 20 ms: what it holds itself, and what is
resident in all. The latter counts pages of mapped files too, which the system takes back when others need the room.
The bundle is then verified, every file and every probe.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click

from experiments.common.result_io import command, machine_line, write
from manylabel import Bundle
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.runner.process import last_line
from manylabel_train.models import checkpoint

LABELS = 8
INTERVAL = 0.02
MAKE = "from sys import argv; from experiments.export_memory.run import make; make(*argv[1:3], *map(int, argv[3:]))"
IMPORT = "import manylabel_export.pipeline, optimum.exporters.onnx, time; time.sleep(1)"
MANYLABEL = (sys.executable, "-m", "manylabel")
OWN = ("RssAnon", "RssShmem")


def make(tokenizer: str, folder: str, layers: int, width: int, vocabulary: int) -> None:
    """Write a checkpoint of random weights."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    torch.manual_seed(0)
    names = [f"label {column}" for column in range(LABELS)]
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        problem_type=checkpoint.MULTI_LABEL,
        id2label=dict(enumerate(names)),
        label2id={name: column for column, name in enumerate(names)},
    )
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    checkpoint.load_tokenizer(tokenizer).save_pretrained(folder)


def watch(words: Sequence[object]) -> dict[str, float]:
    """Run a command and tell the MB that it held at most: `own`, and `resident` in all.

    Raises:
        ClickException: It failed.
    """
    own = 0
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            own = max(own, _own(process.pid))
            time.sleep(INTERVAL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise click.ClickException(f"{words[-1]} ended with {process.returncode}: {last_line(log)}")
    return {"own_mb": own / 1e6, "resident_mb": usage.ru_maxrss * 1024 / 1e6}


def _own(pid: int) -> int:
    """Bytes that a process has to itself: not those of files, which can be read again."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(OWN))


def measure(tokenizer: Path, scratch: Path, size: Sequence[int], precisions: Sequence[str]) -> dict[str, Any]:
    """Make the checkpoint and export it in each precision.

    Args:
        tokenizer: A checkpoint whose tokenizer is used.
        scratch: An empty folder for the checkpoint and its bundles.
        size: Layers, width, vocabulary.
        precisions: To export, each by itself.
    """
    source = scratch / "checkpoint"
    if not source.exists():
        subprocess.run([sys.executable, "-c", MAKE, tokenizer, source, *map(str, size)], check=True)
    weights = (source / "model.safetensors").stat().st_size / 1e6
    idle = watch([sys.executable, "-c", IMPORT])
    rows = {}
    for precision in precisions:
        bundle = scratch / precision
        exported = watch([*MANYLABEL, "export", source, "-o", bundle, "--precision", precision, "--force"])
        verified = watch([*MANYLABEL, "verify", bundle])
        files = {name: record.bytes / 1e6 for name, record in Bundle.open(bundle).manifest.files.items()}
        rows[precision] = {
            "export": exported,
            "verify": verified,
            "copies": (exported["own_mb"] - idle["own_mb"]) / weights,
            "files_mb": {name: size for name, size in files.items() if ".onnx" in name},
        }
    return {"weights_mb": weights, "idle": idle, "exports": rows}


def markdown(result: dict[str, Any]) -> str:
    """The page of a result."""
    lines = []
    for size, found in result["sizes"].items():
        for precision, row in found["exports"].items():
            own, resident, verify = row["export"]["own_mb"], row["export"]["resident_mb"], row["verify"]["resident_mb"]
            files = ", ".join(f"`{name}` {mb:,.0f} MB" for name, mb in row["files_mb"].items())
            lines.append(
                f"| {size} | {found['weights_mb']:,.0f} | {precision} | {own:,.0f} | {row['copies']:.1f} | "
                f"{resident:,.0f} | {verify:,.0f} | {files} |"
            )
    idle = next(iter(result["sizes"].values()))["idle"]
    return "\n".join(
        [
            "# The memory that an export takes",
            "",
            "XLM-R with random weights, exported without validation texts, one precision at a time (fp32 is made and "
            "proved in any case), then verified. `own` is what the process held itself at most, of which "
            f"{idle['own_mb']:,.0f} MB are PyTorch and friends before anything is loaded; `copies` is the rest in "
            "multiples of the weights in fp32. `resident` counts pages of mapped files, too, which the system takes "
            "back when others need the room.",
            "",
            "| layers x width, pieces | weights MB | precision | own MB | copies | resident MB | verify MB | written |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *lines,
            "",
            machine_line(result["machine"], ", busy with other work"),
            "",
            *(f"`{each}`" for each in dict.fromkeys(found["command"] for found in result["sizes"].values())),
            "",
        ]
    )


@click.command()
@click.argument("tokenizer", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--layers", type=click.IntRange(min=1), required=True)
@click.option("--width", type=click.IntRange(min=1), required=True)
@click.option("--vocabulary", type=click.IntRange(min=1), required=True, help="Rows of the table of word embeddings.")
@click.option("--precision", "precisions", type=click.Choice(["fp32", "int8"]), multiple=True, required=True)
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="For the checkpoint and its bundles.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
def main(
    tokenizer: Path, layers: int, width: int, vocabulary: int, precisions: Sequence[str], scratch: Path, output: Path
) -> None:
    """Export a random XLM-R with the tokenizer of TOKENIZER, a checkpoint; other sizes in the result stay."""
    scratch.mkdir(parents=True, exist_ok=True)
    found = measure(tokenizer, scratch, (layers, width, vocabulary), precisions)
    given = {"layers": layers, "width": width, "vocabulary": vocabulary, "scratch": scratch, "output": output}
    words = command("export_memory", [str(tokenizer)], given, {"precision": precisions})
    path = output / "result.json"
    sizes = json.loads(path.read_text(encoding="utf-8"))["sizes"] if path.exists() else {}
    sizes[f"{layers} x {width}, {vocabulary:,}"] = {**found, "command": words}
    result = {"machine": describe_hardware(), "sizes": sizes}
    write(result, output, markdown(result))


if __name__ == "__main__":
    main()
