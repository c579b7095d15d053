//! Constants of the cost model, as `super::fit` gives them for the published rows. Written by
//! `ANEGPT_BLESS=1 cargo test -p chip --test cost constants_are_what_the_fit_gives`; do not edit, but
//! for a line of any numbers where a chip is new.

use super::fit::Constants;
use super::model::{ChipConstants, Shared};

/// Published over forecast, the middle nine tenths, for chips with rows of their own (in sample).
pub const BAR_FITTED: (f64, f64) = (0.84, 1.19);

/// Published over forecast, the middle nine tenths, for chips without (chip left out).
pub const BAR_RULED: (f64, f64) = (0.49, 1.57);

/// Everything the model needs to know.
pub const CONSTANTS: Constants = Constants {
    shared: Shared {
        matmul: 0.7622,
        conv1x1: 0.9554,
        conv: 0.9999,
        conv_m5: 1.3884,
        block_mb: 0.7202,
        notch: 0.5219,
        elementwise: 0.0683,
        reduce: 0.0666,
        softmax: 0.3279,
        layer_norm: 1.8669,
        width_layout: 2.3088,
        int8: 2.0380,
    },
    chips: [
        chip("m1", 0.2153, 9.40, 1.25, 63.8),
        chip("m1-pro", 0.2542, 17.92, 3.30, 55.7),
        chip("m1-max", 0.3308, 21.02, 5.46, 60.7),
        chip("m1-ultra", 0.2542, 17.92, 3.30, 55.4),
        chip("m2", 0.1573, 15.22, 2.50, 61.1),
        chip("m2-pro", 0.1042, 21.73, 1.49, 67.1),
        chip("m2-max", 0.1573, 15.22, 2.50, 62.6),
        chip("m2-ultra", 0.1573, 15.22, 2.50, 62.3),
        chip("m3", 0.1230, 17.72, 4.44, 63.6),
        chip("m3-pro", 0.1230, 17.72, 4.44, 67.8),
        chip("m3-max", 0.1555, 24.28, 10.40, 118.0),
        chip("m3-ultra", 0.1555, 24.28, 10.40, 116.0),
        chip("m4", 0.0945, 13.39, 6.87, 59.5),
        chip("m4-pro", 0.1217, 28.27, 18.47, 128.2),
        chip("m4-max", 0.1217, 28.27, 18.47, 120.5),
        chip("m5", 0.1007, 32.78, 23.73, 80.8),
        chip("m5-pro", 0.0784, 30.83, 25.55, 138.5),
        chip("m5-max", 0.0952, 32.91, 32.80, 150.3),
        chip("m6", 0.0744, 38.31, 58.26, 153.5),
    ],
};

const fn chip(
    name: &'static str,
    floor_ms: f64,
    read: f64,
    write: f64,
    stream: f64,
) -> ChipConstants {
    ChipConstants { name, floor_ms, read, write, stream }
}
