"""A stand-in for the `tensorrt` module: the builder API as documented for 8.6, 10.x and 11.x, without a GPU behind it.

The environment says how it behaves: FAKE_TENSORRT_VERSION, FAKE_TENSORRT_DIES (killed while building), FAKE_TENSORRT_FAILS (the
builder returns None) and FAKE_TENSORRT_DLA_CORES (11.0 to 11.3 have no DLA at all). The "engine" it builds is a JSON text of what
it was asked for.
"""

import enum
import json
import os
import signal

import onnx

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.3.0")
_MAJOR = int(__version__.split(".")[0])
_TYPES = {"Conv": "CONVOLUTION", "Relu": "ACTIVATION", "Add": "ELEMENTWISE", "InstanceNormalization": "NORMALIZATION"}
_REFUSED = ("DynamicQuantizeLinear", "QLinearConv")
_CACHE_OF_THIS_DEVICE = b"timings of " + __version__.encode()


class Logger:
    """Severities, and an object that holds one."""

    ERROR = 1
    WARNING = 2

    def __init__(self, severity: int) -> None:
        self.severity = severity


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0
    TACTIC_DRAM = 4


class DeviceType(enum.IntEnum):
    GPU = 0
    DLA = 1


class Layer:
    """One layer of a parsed network; what the DLA takes of it is what NVIDIA's table of supported layers says."""

    def __init__(self, name: str, type_: str) -> None:
        self.name, self.type = name, f"LayerType.{type_}"


if _MAJOR < 10:
    NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0})
elif _MAJOR < 11:
    NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1})
else:  # 11: always strongly typed, the flags are gone
    NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"PREFER_JIT_PYTHON_PLUGINS": 2})

_WEAK_FLAGS = {} if _MAJOR >= 11 else {"FP16": 0, "INT8": 1}
BuilderFlag = enum.IntEnum("BuilderFlag", {**_WEAK_FLAGS, "TF32": 7})


class HostMemory(bytearray):
    """What the builder and the timing cache hand out: something with the buffer protocol."""


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> HostMemory:
        return HostMemory(_CACHE_OF_THIS_DEVICE)


class BuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.asked: dict = {"tf32": True}
        self._cache = None
        self.default_device_type, self.DLA_core = DeviceType.GPU, -1

    def can_run_on_DLA(self, layer: Layer) -> bool:  # noqa: N802, as TensorRT calls it
        assert (self.default_device_type, self.DLA_core) == (DeviceType.DLA, 0), "asked before the DLA was chosen"
        return layer.type.split(".")[1] in ("CONVOLUTION", "ACTIVATION", "ELEMENTWISE")

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.asked[pool.name.lower()] = size

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.asked[flag.name.lower()] = False

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.content and cache.content != _CACHE_OF_THIS_DEVICE and not ignore_mismatch:
            return False
        self._cache = cache
        self.asked["warm_timings"] = bool(cache.content)
        return True

    def get_timing_cache(self) -> TimingCache:
        return self._cache


class Network:
    def __init__(self, flags: int) -> None:
        names = [flag.name for flag in NetworkDefinitionCreationFlag if flags & (1 << int(flag))]
        self.strongly_typed = _MAJOR >= 11 or "STRONGLY_TYPED" in names
        self.layers: list = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]


class ParserError:
    def __init__(self, text: str, node: str) -> None:
        self._text, self._node = text, node

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._node


class OnnxParser:
    def __init__(self, network: Network, logger: Logger) -> None:
        self._network, self._errors = network, []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, content: bytes) -> bool:
        try:
            model = onnx.load_from_string(content)
        except Exception:
            self._errors.append(ParserError("failed to parse the ONNX model", ""))
            return False
        self._network.layers = [Layer(n.name, _TYPES.get(n.op_type, n.op_type.upper())) for n in model.graph.node]
        self._errors += [ParserError(f"no importer for {n.op_type}", n.name) for n in model.graph.node if n.op_type in _REFUSED]
        return not self._errors


class Builder:
    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        if __version__ >= "11.4" or _MAJOR < 11:
            self.num_DLA_cores = int(os.environ.get("FAKE_TENSORRT_DLA_CORES", "0"))

    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def build_serialized_network(self, network: Network, config: BuilderConfig):
        if os.environ.get("FAKE_TENSORRT_DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("FAKE_TENSORRT_FAILS"):
            return None
        with open("/proc/self/oom_score_adj") as file:
            plan = {"oom_score_adj": int(file.read())}
        plan |= {"strongly_typed": network.strongly_typed, "level": config.builder_optimization_level, **config.asked}
        return HostMemory(json.dumps(plan).encode())
