"""What ATC prints when it fails, in the wordings of new and old releases."""

from __future__ import annotations

# Code, text as the reference has it, and a word that the advice must hold.
TEXTS = [
    (
        "E10001: Value [-1] for parameter [Inputs] is invalid. Reason: maybe you should set input_shape",
        "--batch_size",
    ),
    ("E10001: Value -1 for parameter Inputs is invalid. Reason: set input_shape.", "--batch_size"),
    ("E10001: Value [linux] for parameter [--host_env_os] is invalid. Reason: x.", "set_env.sh"),
    (
        "E10001: Value [high_performance ] for parameter [--op_select_implmode] is invalid. Reason: x.",
        "whitespace",
    ),
    (
        "E10001: Value high_performance  for parameter --op_select_implmode is invalid. Reason: x.",
        "whitespace",
    ),
    ("E10001: The Auto Tune function has been deprecated. Please use the AOE tool", "AOE"),
    ("E10001: Value [9] for parameter [--framework] is invalid. Reason: x.", "atc --help"),
    (
        "E10002: Value a for parameter --input_shape is invalid. Reason: b. The value must be formatted as c.",
        "name:",
    ),
    ("E10016: Op name conv specified in --keep_dtype is not found in the model.", "--keep_dtype"),
    ("E10041: Failed to load the model from tsm.onnx.", "lint_onnx.py"),
    ("E10054: The required parameter --model for ATC is empty.", "option"),
    ("E10054: The requied parameter [--model] for ATC is empty.", "option"),
    ("E10055: The operation is not supported. Reason: x.", "reason"),
    ("E13010: No operator plugin is registered for Op: a, optype: b.", "--opset 11 or 13"),
    ("E16002: No ONNX parser is registered for optype ai.onnx::19::Conv.", "--opset 11 or 13"),
    ("E16004: ONNX model has no graph.", "export it again"),
    ("E16005: The model has 2 --domain_version fields, but only one is allowed.", "modify_onnx.py"),
    ("E19010: No parser is registered for Op [conv1, optype [ai.onnx::19::Conv]].", "--opset 11 or 13"),
    ("E19010: No parser is registered for Op [n, optype [pkg.onnxscript::1::f]].", "dynamo=False"),
    ("EZ9010: No parser is registered for Op [conv1, optype [ai.onnx::17::Conv]].", "--opset 11 or 13"),
    ("EZ0501: IR for Op a with optype b is not registered.", "ops package"),
    ("E10501: IR for Op a with optype b is not registered.", "ops package"),
    ("EZ3002: Optype [X] of Ops kernel [Y] is unsupported. Reason: z.", "int64"),
    ("EZ3003: No supported Ops kernel and engine are found for [name], optype [t]", "int64"),
    ("E40021: Failed to compile Op [conv].", "TE_PARALLEL_COMPILER=1"),
    ("E40002: Failed to import Python module [tbe].", "virtual environment"),
    ("E20002: Environment variable ASCEND_OPP_PATH is not set.", "set_env.sh"),
    ("EE1001: Soc version [Ascend310B4] is invalid", "npu-smi"),
    ("E89999: Inner Error! Add_718 op dtype is not same, type1:DT_INT64, type2:DT_INT32", "Cast"),
    ("EZ9999: Inner Error!", "plog"),
    ("E19999: Inner Error!", "plog"),
    ("E77777: Something new.", "Possible Cause"),
]
