#!/usr/bin/env python3
"""Build a TensorRT engine from the model.onnx beside this file, on the board where it will run.

    python3 build_engine.py                          model.onnx -> model.engine, and model.engine.json beside it
    python3 build_engine.py --check                  only tell whether the engine is there and up to date
    python3 build_engine.py --dla                    only tell what the board's DLA would take, layer by layer

Needs Python >= 3.8 and the `tensorrt` module of the board: 10.x (JetPack 6.2: 10.3, JetPack 7.2: 10.16) or 11.x. An engine
is a cache: it works with one TensorRT version on one kind of GPU. What it was built from and for is stored in its .json, and
the engine is built again when any of that changes. An engine is also code: run only those that you built.

Boards with 8 GB or less share them between CPU and GPU: there kernels may use an eighth, tactics half, and the build runs in a
child process that the kernel ends first, so that being out of memory is an error and not a dead board.

The types are in the ONNX file (strong typing), so there is no precision option. This script was tested against a stand-in for
the `tensorrt` module that follows the documented API of 10.x and 11.x; it has not run on hardware.

Exit codes: 0 engine is ready · 1 --check found none that fits · 2 wrong usage · 3 model missing or unreadable ·
4 no usable TensorRT · 5 the parser refuses the model · 6 the build failed · 7 cannot write · 8 the building process was killed.
"""

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

FORMAT = "edgegen.engine/1"
EXIT_NONE, EXIT_MODEL, EXIT_TENSORRT, EXIT_PARSE, EXIT_BUILD, EXIT_WRITE, EXIT_KILLED = 1, 3, 4, 5, 6, 7, 8
MIB = 1 << 20
SMALL_BOARD_MIB = 8192


class BuildError(Exception):
    """A reason to end: what happened, what to do, and the exit code."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line and return its exit code."""
    options = read_options(arguments)
    try:
        return run(options)
    except BuildError as stop:
        say("error: " + stop.message)
        if stop.hint:
            say("hint: " + stop.hint)
        return stop.code


def read_options(arguments: Optional[List[str]]) -> argparse.Namespace:
    """Return the parsed command line; wrong usage ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Build a TensorRT engine from an edgegen ONNX file, on the board where it runs.")
    here = Path(__file__).resolve().parent
    parser.add_argument("model", nargs="?", type=Path, default=here / "model.onnx", help="default: model.onnx beside this script")
    parser.add_argument("--engine", type=Path, help="where to write; default: beside the model, ending in .engine")
    parser.add_argument("--timing-cache", type=Path, help="file with kernel timings: read if it fits, written after the build")
    parser.add_argument(
        "--workspace-mib", type=positive, help="cap of the memory that kernels may use while building and running"
    )
    parser.add_argument("--board-memory-mib", type=positive, help="default: what /proc/meminfo says")
    parser.add_argument("--optimization-level", type=int, choices=range(6), default=3, help="0 builds fastest, 5 looks longest")
    parser.add_argument("--no-tf32", action="store_true", help="float32 layers keep all their bits (slower)")
    parser.add_argument("--child", action="store_true", help="build in a child process: being killed for memory becomes an error")
    parser.add_argument("--is-child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="build even if the engine is up to date")
    parser.add_argument("--check", action="store_true", help="build nothing")
    parser.add_argument("--dla", action="store_true", help="build nothing; write MODEL.dla.json")
    options = parser.parse_args(arguments)
    options.engine = options.engine or options.model.with_suffix(".engine")
    memory_mib = options.board_memory_mib or total_memory_mib()
    options.small_board, options.tactic_mib = False, None
    if memory_mib is not None and memory_mib <= SMALL_BOARD_MIB:
        options.small_board = True
        options.workspace_mib = options.workspace_mib or max(1, memory_mib // 8)
        options.tactic_mib = max(1, memory_mib // 2)
    return options


def total_memory_mib() -> Optional[int]:
    """Return what the kernel says the machine has; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemTotal:")]
    return int(found[0]) // 1024 if found else None


def positive(text: str) -> int:
    """Return a whole number above zero; argparse reports the ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def run(options: argparse.Namespace) -> int:
    """Build the engine unless the one that is there fits."""
    model = read_model(options.model)
    builds = not (options.check or options.dla)
    if builds and not options.is_child and (options.child or options.small_board):
        return run_child()
    if options.is_child and options.small_board:
        be_ended_first()
    tensorrt = import_tensorrt()
    if options.dla:
        return report_dla(tensorrt, model, options)
    key = engine_key(tensorrt, model, options)
    reason = why_build(options.engine, key)
    if reason is None and not options.force:
        say("up to date: {}".format(options.engine))
        return 0
    say("building: {}".format(reason or "--force"))
    if options.check:
        return EXIT_NONE
    plan, timings = build(tensorrt, model, options)
    write_engine(options.engine, plan, key)
    if options.timing_cache is not None and timings:
        write_file(options.timing_cache, timings)
    say("wrote {} ({:.1f} MiB)".format(options.engine, len(plan) / MIB))
    return 0


def run_child() -> int:
    """Run this script again as the process that builds and return its exit code; a signal becomes EXIT_KILLED."""
    code = subprocess.call([sys.executable, str(Path(__file__).resolve())] + sys.argv[1:] + ["--is-child"])
    if code < 0:
        hint = "close other programs, add swap, or give --workspace-mib and --optimization-level 1"
        raise BuildError(EXIT_KILLED, "the building process was killed by signal {}, most likely for memory".format(-code), hint)
    return code


def be_ended_first() -> None:
    """Ask the kernel to end this process, and not the board's desktop or ssh, when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        say("note: /proc/self/oom_score_adj cannot be written")


# --- what an engine belongs to ------------------------------------------------------------------------------------


def read_model(path: Path) -> bytes:
    """Return the ONNX file's bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BuildError(
            EXIT_MODEL, "{} cannot be read: {}".format(path, error.strerror), "give the path of the .onnx file"
        ) from error
    if not content:
        raise BuildError(EXIT_MODEL, "{} is empty".format(path), "copy the bundle again")
    return content


def import_tensorrt() -> Any:
    """Return the `tensorrt` module, 10 or newer."""
    try:
        tensorrt = importlib.import_module("tensorrt")
    except ImportError as error:
        hint = "on a Jetson: sudo apt install python3-libnvinfer, and use the system's python3"
        raise BuildError(EXIT_TENSORRT, "the tensorrt module cannot be imported: {}".format(error), hint) from error
    if major_version(tensorrt) < 10:
        hint = "JetPack 6.2 and later bring TensorRT 10.3 or newer"
        raise BuildError(EXIT_TENSORRT, "TensorRT {} is older than 10".format(tensorrt.__version__), hint)
    return tensorrt


def major_version(tensorrt: Any) -> int:
    """Return the first number of the version."""
    return int(str(tensorrt.__version__).split(".")[0])


def engine_key(tensorrt: Any, model: bytes, options: argparse.Namespace) -> Dict[str, Any]:
    """Return everything that an engine depends on, as plain JSON."""
    return {
        "format": FORMAT,
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "tensorrt": str(tensorrt.__version__),
        "gpu": gpu_facts(),
        "strongly_typed": True,
        "workspace_mib": options.workspace_mib,
        "tactic_mib": options.tactic_mib,
        "optimization_level": options.optimization_level,
        "tf32": not options.no_tf32,
    }


def gpu_facts() -> Optional[Dict[str, Any]]:
    """Return name, compute capability and CUDA driver version of GPU 0, asked from libcuda; None where there is no libcuda."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, number = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGet(ctypes.byref(device), 0) != 0:
        raise BuildError(EXIT_TENSORRT, "CUDA finds no GPU", "run on the board itself; in a container, give it the GPU")
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    cuda.cuDriverGetVersion(ctypes.byref(number))
    driver = "{}.{}".format(number.value // 1000, number.value % 1000 // 10)
    return {"name": name.value.decode(errors="replace"), "compute_capability": "{}.{}".format(*numbers), "cuda_driver": driver}


def why_build(engine: Path, key: Dict[str, Any]) -> Optional[str]:
    """Return why the engine on disk cannot be used, None if it can."""
    try:
        stored = json.loads(key_path(engine).read_text())
        content = engine.read_bytes()
    except (OSError, ValueError):
        return "there is no engine with a readable key"
    if not isinstance(stored, dict) or stored.pop("engine_sha256", None) != hashlib.sha256(content).hexdigest():
        return "the engine is not the one that its key describes"
    changed = [name for name in key if stored.get(name) != key[name]]
    return "{} changed".format(", ".join(changed)) if changed else None


def key_path(engine: Path) -> Path:
    """Return where the key of `engine` is stored."""
    return engine.with_name(engine.name + ".json")


# --- building -----------------------------------------------------------------------------------------------------


def build(tensorrt: Any, model: bytes, options: argparse.Namespace) -> Any:
    """Return (engine bytes, timing cache bytes)."""
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.WARNING))
    network, _parser = parse(tensorrt, builder, model)
    config = builder.create_builder_config()
    config.builder_optimization_level = options.optimization_level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.tactic_mib is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.TACTIC_DRAM, options.tactic_mib * MIB)
    if options.no_tf32:
        config.clear_flag(tensorrt.BuilderFlag.TF32)
    use_timings(config, options.timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        hint = "the lines above tell the layer; for memory: --workspace-mib and --optimization-level 1"
        raise BuildError(EXIT_BUILD, "TensorRT {} could not build the engine".format(tensorrt.__version__), hint)
    cache = config.get_timing_cache()
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def parse(tensorrt: Any, builder: Any, model: bytes) -> Any:
    """Return (network, parser); the parser owns weights that the network reads until it is built."""
    network = builder.create_network(network_flags(tensorrt))
    parser = tensorrt.OnnxParser(network, tensorrt.Logger(tensorrt.Logger.WARNING))
    if not parser.parse(model):
        errors = [describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise BuildError(EXIT_PARSE, "TensorRT {} refuses the model: {}".format(tensorrt.__version__, "; ".join(errors)),
                   "export again with the edgegen version that fits this TensorRT")  # fmt: skip
    return network, parser


def report_dla(tensorrt: Any, model: bytes, options: argparse.Namespace) -> int:
    """Tell which layers the DLA takes, and how often a picture would move between DLA and GPU; write it beside the model."""
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    cores = int(getattr(builder, "num_DLA_cores", 0))
    if cores == 0:
        hint = "Xavier and Orin NX and AGX have one; TensorRT 11.0 to 11.3 cannot use it"
        raise BuildError(EXIT_TENSORRT, "TensorRT {} finds no DLA here".format(tensorrt.__version__), hint)
    network, _parser = parse(tensorrt, builder, model)
    config = builder.create_builder_config()
    config.default_device_type, config.DLA_core = tensorrt.DeviceType.DLA, 0
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    taken = [bool(config.can_run_on_DLA(layer)) for layer in layers]
    kinds = [str(layer.type).rsplit(".", 1)[-1] for layer in layers]
    moves = sum(before != after for before, after in zip(taken, taken[1:]))
    rows = [{"layer": layer.name, "type": kind, "dla": on} for layer, kind, on in zip(layers, kinds, taken)]
    report = {"tensorrt": str(tensorrt.__version__), "dla_cores": cores, "moves": moves, "layers": rows}
    path = options.model.with_suffix(".dla.json")
    write_file(path, (json.dumps(report, indent=1) + "\n").encode())
    refused = sorted({kind for kind, on in zip(kinds, taken) if not on})
    say("the DLA takes {} of {} layers, {} moves between it and the GPU".format(sum(taken), len(layers), moves))
    if refused:
        say("left to the GPU: {}".format(", ".join(refused)))
    say("wrote {}".format(path))
    return 0


def network_flags(tensorrt: Any) -> int:
    """Return the creation flags of a strongly typed network: a flag in 10.x, the only kind there is in 11."""
    flag = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if major_version(tensorrt) >= 11:
        return 0
    if flag is None:
        raise BuildError(EXIT_TENSORRT, "TensorRT {} has no strong typing".format(tensorrt.__version__), "use 10.3 or newer")
    return 1 << int(flag)


def describe(error: Any) -> str:
    """Return one parser error with its node, where the version tells it."""
    text = str(error.desc())
    name = getattr(error, "node_name", None)
    where = name() if callable(name) else ""
    return "node '{}': {}".format(where, text) if where else text


def use_timings(config: Any, path: Optional[Path]) -> None:
    """Give `config` the timings in `path`; start empty where there are none, or they come from another device."""
    content = b""
    if path is not None and path.is_file():
        content = path.read_bytes()
    if content and config.set_timing_cache(config.create_timing_cache(content), False):
        return
    if content:
        say("note: {} does not fit this device or version, starting with an empty one".format(path))
    config.set_timing_cache(config.create_timing_cache(b""), False)


# --- writing ------------------------------------------------------------------------------------------------------


def write_engine(engine: Path, plan: bytes, key: Dict[str, Any]) -> None:
    """Write the engine, then its key: an interrupted write leaves an engine without a fitting key, which is built again."""
    document = dict(key, engine_sha256=hashlib.sha256(plan).hexdigest())
    write_file(engine, plan)
    write_file(key_path(engine), (json.dumps(document, indent=1, sort_keys=True) + "\n").encode())


def write_file(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step: readers see the old file or the whole new one."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.name + ".", dir=str(path.parent))
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, str(path))
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise BuildError(
            EXIT_WRITE, "{} cannot be written: {}".format(path, error.strerror), "free space, or give --engine"
        ) from error


def say(text: str) -> None:
    """Print one line to standard error; standard output stays free."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
