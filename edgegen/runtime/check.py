"""Does the artifact do here what the student did when the bundle was made? Runs the stored cases; needs no torch.

Python >= 3.8, numpy and one back end.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from edgegen.runtime.bundle import OpenBundle
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.pictures import to_given, to_tensor
from edgegen.runtime.tensors import Kind, TensorSpec

PSNR_CAP_DB = 100.0  # stands for "the same": infinity is no JSON number


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """What one case gave. Values are 8-bit levels for pictures; `psnr_db` and the rest are None if an output is not finite."""

    name: str
    passed: bool
    min_psnr_db: float
    psnr_db: Optional[float]
    max_abs: Optional[float]
    cosine: Optional[float]
    nan: int
    inf: int


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The gate: `passed` only if there is a case and every case passed."""

    artifact: str
    cases: Tuple[CaseResult, ...]
    ran: Dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether timings of this artifact may be compared with others."""
        return bool(self.cases) and all(case.passed for case in self.cases)

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object."""
        return {
            "artifact": self.artifact, "passed": self.passed, "ran": self.ran,
            "cases": [dataclasses.asdict(case) for case in self.cases],
        }  # fmt: skip


def check(bundle: OpenBundle) -> CheckResult:
    """Run every stored case of `bundle` through its artifact and compare with what the float student gave."""
    results = []
    for case, inputs, expected in bundle.cases():
        tensors = [to_tensor(value, spec) for value, spec in zip(inputs, bundle.artifact.io.inputs)]
        outputs = bundle.run(tensors)
        results.append(_compare(case.name, case.min_psnr_db, bundle, outputs, expected))
    return CheckResult(bundle.artifact.name, tuple(results), bundle.describe())


def _compare(
    name: str, min_psnr_db: float, bundle: OpenBundle, outputs: List[np.ndarray], expected: List[np.ndarray]
) -> CaseResult:
    floats = [output for output in outputs if output.dtype.kind == "f"]
    nan = sum(int(np.isnan(output).sum()) for output in floats)
    inf = sum(int(np.isinf(output).sum()) for output in floats)
    if nan or inf:
        return CaseResult(name, False, min_psnr_db, None, None, None, nan, inf)
    ports = zip(outputs, bundle.artifact.io.outputs, expected, bundle.manifest.component.outputs)
    found = [_distance(to_given(output, spec), reference, seen) for output, spec, reference, seen in ports]
    psnr_db = min(row[0] for row in found)
    return CaseResult(
        name, psnr_db >= min_psnr_db, min_psnr_db, psnr_db, max(row[1] for row in found), min(row[2] for row in found), 0, 0
    )


def _distance(output: np.ndarray, reference: np.ndarray, spec: TensorSpec) -> Tuple[float, float, float]:
    """Return PSNR in dB, the largest difference and the cosine of the two."""
    if output.shape != reference.shape:
        raise RuntimeBundleError(f"output '{spec.name}' has shape {output.shape}, the case expects {reference.shape}")
    a, b = output.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    error = float(np.mean((a - b) ** 2))
    peak = 255.0 if spec.kind is Kind.IMAGE else float(b.max() - b.min()) or 1.0
    psnr_db = PSNR_CAP_DB if error == 0 else min(PSNR_CAP_DB, 10 * math.log10(peak * peak / error))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / norms if norms else float(not a.any() and not b.any())
    return psnr_db, float(np.abs(a - b).max()), min(1.0, cosine)
