//! GPT models as MIL: configuration, parameters, kernels, plans and weight formats.
