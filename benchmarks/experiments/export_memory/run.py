"""How much memory does the export of a large model take, in multiples of its weights?

    python -m experiments.export_memory.run TOKENIZER --layers 24 --width 1024 --vocabulary 250002 --output FOLDER

Exports an XLM-R of any size with random weights and the tokenizer of a checkpoint (which may have fewer tokens). Each
precision is exported by a process of its own, whose memory is sampled every 20 ms: its own memory, and all resident
memory. The latter includes pages of mapped files, which the system reclaims when other processes need memory. The
bundle is then verified, every file and every probe.
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

from experiments.common.result_io import format_command, format_machine, write_result
from manylabel import Bundle
from manylabel_bench.hardware import describe_hardware
from manylabel_bench.runner.process import last_line
from manylabel_train.models import checkpoint

LABELS = 8
SAMPLE_SECONDS = 0.02
WRITE_CHECKPOINT = """
from sys import argv
from experiments.export_memory.run import write_checkpoint
write_checkpoint(*argv[1:3], *map(int, argv[3:]))
"""
IMPORT_ONLY = "import manylabel_export.pipeline, optimum.exporters.onnx, time; time.sleep(1)"
MANYLABEL = (sys.executable, "-m", "manylabel")
OWN_MEMORY_FIELDS = ("RssAnon", "RssShmem")


def write_checkpoint(tokenizer: str, folder: str, layers: int, width: int, vocabulary: int) -> None:
    """Write a checkpoint with random weights."""
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


def run_with_peak_memory(command: Sequence[object]) -> dict[str, float]:
    """Run a command and return its peak memory in MB: its own, and all resident memory.

    Raises:
        ClickException: The command failed.
    """
    own = 0
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            own = max(own, _own_bytes(process.pid))
            time.sleep(SAMPLE_SECONDS)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise click.ClickException(f"{command[-1]} ended with {process.returncode}: {last_line(log)}")
    return {"own_mb": own / 1e6, "resident_mb": usage.ru_maxrss * 1024 / 1e6}


def _own_bytes(pid: int) -> int:
    """Return the memory that belongs to a process alone, without mapped files, which can be read again."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(OWN_MEMORY_FIELDS))


def measure_exports(tokenizer: Path, scratch: Path, size: Sequence[int], precisions: Sequence[str]) -> dict[str, Any]:
    """Write the checkpoint and export it in each precision.

    Args:
        tokenizer: A checkpoint whose tokenizer is used.
        scratch: An empty folder for the checkpoint and its bundles.
        size: Layers, width, vocabulary.
        precisions: Precisions to export, one at a time.
    """
    source = scratch / "checkpoint"
    if not source.exists():
        subprocess.run([sys.executable, "-c", WRITE_CHECKPOINT, tokenizer, source, *map(str, size)], check=True)
    weights = (source / "model.safetensors").stat().st_size / 1e6
    idle = run_with_peak_memory([sys.executable, "-c", IMPORT_ONLY])
    rows = {}
    for precision in precisions:
        bundle = scratch / precision
        exported = run_with_peak_memory(
            [*MANYLABEL, "export", source, "-o", bundle, "--precision", precision, "--force"]
        )
        verified = run_with_peak_memory([*MANYLABEL, "verify", bundle])
        files = {name: record.bytes / 1e6 for name, record in Bundle.open(bundle).manifest.files.items()}
        rows[precision] = {
            "export": exported,
            "verify": verified,
            "copies": (exported["own_mb"] - idle["own_mb"]) / weights,
            "files_mb": {name: size for name, size in files.items() if ".onnx" in name},
        }
    return {"weights_mb": weights, "idle": idle, "exports": rows}


def render_readme(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    lines = []
    for size, measured in result["sizes"].items():
        for precision, row in measured["exports"].items():
            own, resident, verify = row["export"]["own_mb"], row["export"]["resident_mb"], row["verify"]["resident_mb"]
            files = ", ".join(f"`{name}` {mb:,.0f} MB" for name, mb in row["files_mb"].items())
            lines.append(
                f"| {size} | {measured['weights_mb']:,.0f} | {precision} | {own:,.0f} | {row['copies']:.1f} | "
                f"{resident:,.0f} | {verify:,.0f} | {files} |"
            )
    idle = next(iter(result["sizes"].values()))["idle"]
    return "\n".join(
        [
            "# Peak memory of an export",
            "",
            "XLM-R with random weights, exported without validation texts, one precision at a time (fp32 is built and "
            "checked in any case), then verified. `own` is the peak of the process's own memory, of which PyTorch and "
            f"other imports take {idle['own_mb']:,.0f} MB before anything is loaded; `copies` is the rest in multiples "
            "of the fp32 weights. `resident` includes pages of mapped files, which the system reclaims when other "
            "processes need memory.",
            "",
            "| layers x width, vocabulary | weights MB | precision | own MB | copies | resident MB | verify MB | "
            "written |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *lines,
            "",
            format_machine(result["machine"], ", busy with other work"),
            "",
            *(f"`{each}`" for each in dict.fromkeys(measured["command"] for measured in result["sizes"].values())),
            "",
        ]
    )


@click.command()
@click.argument("tokenizer", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--layers", type=click.IntRange(min=1), required=True)
@click.option("--width", type=click.IntRange(min=1), required=True)
@click.option("--vocabulary", type=click.IntRange(min=1), required=True, help="Rows of the word embedding table.")
@click.option("--precision", "precisions", type=click.Choice(["fp32", "int8"]), multiple=True, required=True)
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="For the checkpoint and its bundles.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="For result.json and README.md.")
def main(
    tokenizer: Path, layers: int, width: int, vocabulary: int, precisions: Sequence[str], scratch: Path, output: Path
) -> None:
    """Export a random XLM-R with the tokenizer of TOKENIZER, a checkpoint; the result keeps other sizes."""
    scratch.mkdir(parents=True, exist_ok=True)
    measured = measure_exports(tokenizer, scratch, (layers, width, vocabulary), precisions)
    given = {"layers": layers, "width": width, "vocabulary": vocabulary, "scratch": scratch, "output": output}
    command = format_command("export_memory", [str(tokenizer)], given, {"precision": precisions})
    path = output / "result.json"
    sizes = json.loads(path.read_text(encoding="utf-8"))["sizes"] if path.exists() else {}
    sizes[f"{layers} x {width}, {vocabulary:,}"] = {**measured, "command": command}
    result = {"machine": describe_hardware(), "sizes": sizes}
    write_result(result, output, render_readme)


if __name__ == "__main__":
    main()
