"""How ONNX Runtime's sessions are set up."""

import onnxruntime


def session_options(num_threads: int) -> onnxruntime.SessionOptions:
    """Options for calls of every shape.

    Args:
        num_threads: threads within one call.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Arenas and patterns grow with every new shape; threads that spin take cores from other calls.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = num_threads
    return options
