"""The forms of int8 that are compared: each makes a graph from a fused fp32 one and some real texts."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from manylabel_export.graph.activations import Fixed
from manylabel_export.graph.editor import CONTRIB, Editor, clone
from manylabel_export.graph.embedding import quantise_embeddings
from manylabel_export.graph.int8 import Choice, Quantisation, fixed_if_bounded, row_wise
from manylabel_export.graph.moments import Moments, measure

READ = 32
"""Batches that ONNX Runtime's calibrators are shown: they keep every activation of every batch in memory."""

Ids = NDArray[np.int64]


@dataclass
class Material:
    """What a form is made from.

    Attributes:
        fused: The fp32 graph, fused for CPU, taking token ids alone.
        batches: Token ids of validation texts, each `(batch, sequence)`; empty for a random model.
    """

    fused: onnx.ModelProto
    batches: Sequence[Ids]
    _moments: dict[str, Moments] | None = None

    @property
    def moments(self) -> dict[str, Moments]:
        """Measured once."""
        if self._moments is None:
            self._moments = measure(self.fused, self.batches)
        return self._moments


@dataclass(frozen=True)
class Form:
    """One way to int8.

    Attributes:
        says: What it is.
        make: The graph.
        ours: Loaded as it is. The others rely on ONNX Runtime's optimisations.
        alone: Texts go one by one, since their answer depends on their neighbours.
    """

    says: str
    make: Callable[[Material], onnx.ModelProto]
    ours: bool = True
    alone: bool = False


def everything_fixed(made_by: set[str], moments: Moments | None, weights: NDArray[np.float32]) -> Any:
    """SmoothQuant's static scales for every activation."""
    assert moments is not None
    return Fixed.for_texts(moments, weights)


def _ours(material: Material, *, fitted: bool = True, table: bool = True, choose: Choice = fixed_if_bounded) -> Any:
    proto = quantise_embeddings(material.fused) if table else material.fused
    return Quantisation(proto, material.moments if fitted else None, choose).graph()


def _with_tanh(material: Material) -> onnx.ModelProto:
    editor = Editor(_ours(material))
    for node in editor.nodes:
        if node.op_type == "Gelu":
            editor.supersede(node.output[0], editor.add("Gelu", [node.input[0]], "gelu", approximate="tanh"))
    return editor.finish()


def _with_one_projection(material: Material) -> onnx.ModelProto:
    """Query, key and value as one product, split afterwards, where they read the same bytes."""
    editor = Editor(_ours(material))
    for node in editor.nodes:
        made = [editor.producer(name) for name in node.input[:3]] if node.op_type == "MultiHeadAttention" else []
        if not made or len({part.input[0] for part in made if part is not None}) != 1:
            continue
        parts = [part for part in made if part is not None and part.op_type == "MatMulIntegerToFloat"]
        weights = [editor.constant(part.input[1]) for part in parts]
        scales = [editor.constant(part.input[3]) for part in parts]
        joined = list(parts[0].input)
        joined[1] = editor.add_constant(np.concatenate([w for w in weights if w is not None], axis=1), "weight_int8")
        joined[3] = editor.add_constant(np.concatenate([s for s in scales if s is not None]), "weight_scale")
        product = editor.add("MatMulIntegerToFloat", joined, "product_int8", domain=CONTRIB)
        query = editor.add("Split", [product], "query", outputs=3, axis=-1, num_outputs=3)
        for index, name in enumerate((query, *list(editor.producer(query).output)[1:])):  # type: ignore[union-attr]
            editor.set_input(node, index, name)
    return editor.finish()


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
    def __init__(self, batches: Sequence[Ids]) -> None:
        self._feeds: Iterator[dict[str, Ids]] = iter([{"input_ids": ids} for ids in batches])

    def get_next(self) -> dict[str, Ids] | None:
        """The next batch."""
        return next(self._feeds, None)


def _static(material: Material, method: CalibrationMethod) -> onnx.ModelProto:
    """ONNX Runtime's own static quantisation, as its documentation has it; histograms take texts of one length."""
    shapes = Counter(ids.shape for ids in material.batches)
    alike = [ids for ids in material.batches if ids.shape == shapes.most_common(1)[0][0]]
    read = material.batches if method is CalibrationMethod.MinMax else alike
    spread = np.linspace(0, len(read) - 1, min(READ, len(read))).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(material.fused, source)
        quantize_static(
            source,
            result,
            _Reader([read[place] for place in spread]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(result)


def _dynamic(material: Material) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(material.fused, source)
        quantize_dynamic(
            source,
            result,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        return onnx.load(result)


FORMS = {
    "fp32": Form("the fused fp32 graph", lambda material: clone(material.fused)),
    "row-wise": Form("a scale for every row, nearest bytes", partial(_ours, fitted=False, table=False)),
    "row-wise-gptq": Form("a scale for every row, GPTQ", partial(_ours, table=False, choose=row_wise)),
    "default": Form("fixed scales after normalisations, GPTQ, int8 embeddings", _ours),
    "default-fp32-embeddings": Form("the default with fp32 embeddings", partial(_ours, table=False)),
    "default-tanh": Form("the default with GELU by tanh", _with_tanh),
    "default-one-qkv": Form("the default with query, key and value as one product", _with_one_projection),
    "smoothquant": Form("fixed scales everywhere (SmoothQuant), GPTQ", partial(_ours, choose=everything_fixed)),
    "static-minmax": Form("quantize_static, min-max", partial(_static, method=CalibrationMethod.MinMax), ours=False),
    "static-percentile": Form(
        "quantize_static, percentile", partial(_static, method=CalibrationMethod.Percentile), ours=False
    ),
    "static-entropy": Form("quantize_static, entropy", partial(_static, method=CalibrationMethod.Entropy), ours=False),
    "dynamic": Form("quantize_dynamic, one text a call", _dynamic, ours=False, alone=True),
}
