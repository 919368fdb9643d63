"""Build ONNX graphs node by node; their weights lie in one file that several graphs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from onnx import TensorProto

BLOCK = 32
"""Consecutive weights of a row that share a scale."""
WEIGHTS = "weights.bin"
_ALIGNMENT = 4096
"""Bytes; mapped tensors begin on a page."""
_OPSETS = {"": 21, "com.microsoft": 1}
_IR_VERSION = 10


class WeightsFile:
    """The tensors of several graphs in one file, which ONNX Runtime maps into memory. Equal names are one tensor."""

    def __init__(self, folder: Path) -> None:
        """Create `weights.bin` in `folder`; close it before the graphs are run."""
        self._file: BinaryIO = (folder / WEIGHTS).open("wb")
        self._tensors: dict[str, TensorProto] = {}

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def add(self, name: str, array: np.ndarray) -> TensorProto:
        """Write a tensor unless one of this name is there; returns the reference that a graph holds."""
        from onnx import StringStringEntryProto, TensorProto, helper

        if name not in self._tensors:
            self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
            place = {"location": WEIGHTS, "offset": self._file.tell(), "length": array.nbytes}
            self._file.write(np.ascontiguousarray(array).data)
            self._tensors[name] = TensorProto(
                name=name,
                data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                dims=array.shape,
                data_location=TensorProto.EXTERNAL,
                external_data=[StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()],
            )
        return self._tensors[name]


class Graph:
    """An ONNX graph under construction. Values are known by name; operators return the names of their outputs."""

    def __init__(self, weights: WeightsFile) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._initializers: dict[str, Any] = {}

    def input(self, name: str, dtype: type, shape: Sequence[str | int]) -> str:
        """Declare an input; a dimension is a number or a name."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: type, shape: Sequence[str | int]) -> None:
        """Make `value` an output called `name`."""
        if value != name:
            self.op("Identity", value, named=name)
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, value: int | Sequence[float], dtype: type) -> str:
        """A small constant stored in the graph itself."""
        from onnx import numpy_helper

        name = f"{np.dtype(dtype).name}:{value}"
        self._initializers.setdefault(name, numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def type_code(self, dtype: type) -> int:
        """The code of a number format, for `Cast`."""
        from onnx import helper

        return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def weight(self, name: str, array: np.ndarray) -> str:
        """A tensor in the weights file."""
        self._initializers[name] = self._weights.add(name, array)
        return name

    def op(self, kind: str, *inputs: str, named: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output, called `named` or by a name of its own."""
        return self.ops(kind, *inputs, names=[named or f"{kind}_{len(self._nodes)}"], domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, names: list[str], domain: str = "", **attributes: Any) -> list[str]:
        """Add an operator with outputs called `names`."""
        from onnx import helper

        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return names

    def linear(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """x · weightᵀ + bias in float32; `weight` is (outputs, inputs)."""
        y = self.op("MatMul", x, self.weight(f"{name}.transposed", weight.T))
        return y if bias is None else self.op("Add", y, self.weight(f"{name}.bias", bias))

    def linear8(
        self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None = None, *, quantize_input: bool
    ) -> str:
        """x · weightᵀ + bias with 8-bit weights and one scale for 32 of them; `weight` is (outputs, inputs).

        `quantize_input` rounds x to int8 in the same blocks, which is faster for a few rows; otherwise weights are
        expanded to float32 and multiplied as such, which is faster for many.
        """
        if name not in self._weights:
            values, scales = quantize_blocks(weight)
            self._weights.add(f"{name}.scales", scales)
        else:
            values, scales = np.empty(0, np.uint8), np.empty(0, np.float32)  # written before
        y = self.op(
            "MatMulNBits",
            x,
            self.weight(name, values),
            self.weight(f"{name}.scales", scales),
            domain="com.microsoft",
            K=weight.shape[1],
            N=weight.shape[0],
            bits=8,
            block_size=BLOCK,
            accuracy_level=4 if quantize_input else 1,
        )
        return y if bias is None else self.op("Add", y, self.weight(f"{name}.bias", bias))

    def rms_norm(self, x: str, name: str, weight: np.ndarray, epsilon: float) -> str:
        """x / √(mean(x²) + epsilon) · weight, over the last dimension."""
        return self.op("SimplifiedLayerNormalization", x, self.weight(name, weight), axis=-1, epsilon=epsilon)

    def save(self, path: Path) -> None:
        """Write the graph beside its weights file."""
        from onnx import helper, save_model

        graph = helper.make_graph(self._nodes, path.stem, self._inputs, self._outputs, [*self._initializers.values()])
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="ragx")
        model.ir_version = _IR_VERSION
        save_model(model, path)


def quantize_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (outputs, inputs) in 8 bits as MatMulNBits reads it.

    Returns:
        Values (outputs, blocks, 32) uint8 with zero at 128, and scales (outputs, blocks) float32: weights are
        (value - 128) · scale. The last block is padded.
    """
    rows, columns = weight.shape
    padded = np.pad(weight.astype(np.float32), ((0, 0), (0, -columns % BLOCK)))
    blocks = padded.reshape(rows, -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / 127
    values = np.rint(blocks / np.where(scales == 0, 1, scales)[:, :, None]) + 128
    return values.astype(np.uint8), scales


def _value(name: str, dtype: type, shape: Sequence[str | int]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
