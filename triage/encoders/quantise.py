"""Turns the weights of an ONNX model into eight-bit integers."""

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic


def quantise(model: Path) -> None:
    """Replace a model by one whose matrix products run on eight-bit integers.

    Weights are rounded beforehand, one scale per output channel; activations as they come
    (dynamic quantisation), so that no example pictures are needed. Their scale is that of a whole
    batch, so a row depends a little on its neighbours (docs/encoders.md). Convolutions stay as they
    are: of a vision transformer there is one, and ONNX Runtime has no quick integer form of it.
    """
    graph = onnx.load(model)
    # Shapes noted at export contradict the products that the quantiser turns around, and it
    # infers its own.
    del graph.graph.value_info[:]
    with tempfile.TemporaryDirectory(dir=model.parent) as scratch:
        smaller = Path(scratch) / model.name
        quantize_dynamic(
            graph,
            smaller,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Without VNNI, sums of two products of eight bits overflow sixteen; seven do not.
            reduce_range=True,
        )
        for path in model.parent.glob(f"{model.name}*"):
            path.unlink()
        for path in Path(scratch).iterdir():
            path.replace(model.parent / path.name)
