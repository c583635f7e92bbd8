"""OpenVINO, without its telemetry: import it from here.

``openvino_telemetry`` reports every import and conversion over the network, from a process that it forks in a thread. Besides
being nobody's business, forking beside a matrix product can leave OpenBLAS waiting for ever. OpenVINO does without the package.

Where OpenVINO cannot be imported (there are no wheels for the platform, say), models that hold an ONNX graph still predict, by ONNX
Runtime; whatever else asks for OpenVINO is told what to install.
"""

import sys
from typing import Any

from frostline.errors import UserError

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


class _Missing:
    """Stands for a package that is not there: the first use of it is the error."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UserError("This needs OpenVINO, which cannot be imported here.", received=reason, hint="pip install openvino")


try:
    import openvino as ov
    from openvino import opset13 as ops
    from openvino import passes

    available, reason = True, ""
except ImportError as error:
    ov = ops = passes = _Missing()
    available, reason = False, str(error)

__all__ = ["available", "ops", "ov", "passes", "reason"]
