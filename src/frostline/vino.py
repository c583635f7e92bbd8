"""OpenVINO, without its telemetry: import it from here.

``openvino_telemetry`` reports every import and conversion over the network, from a process that it forks in a thread. Besides
being nobody's business, forking beside a matrix product can leave OpenBLAS waiting for ever. OpenVINO does without the package.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

__all__ = ["ops", "ov"]
