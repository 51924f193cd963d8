"""How an ONNX model is opened: on the processor, with as many threads as asked, and nothing else.

onnxruntime is imported when the first model is opened.
"""

from __future__ import annotations

from typing import Any

from atlas.errors import ArtifactCorrupt

__all__ = ["open_session"]

_FATAL = 4


def open_session(model: bytes, *, n_threads: int) -> Any:
    """Return a session over a model.

    Raises
    ------
    ArtifactCorrupt
        If the runtime does not take it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A thread that spins while it waits takes the processor from the worker's event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _FATAL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise ArtifactCorrupt(
            f"Expected a model that onnxruntime {onnxruntime.__version__} can open; found "
            f"{str(error)[:200]}. Fetch the blob again, or roll back to an earlier version."
        ) from error
