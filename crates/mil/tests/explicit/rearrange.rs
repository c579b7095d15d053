//! Operations that move elements.

use super::{Case, case, count, tensor};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("identity(x = x)", count(&[2, 3]), count(&[2, 3])),
        case(
            "reverse(x = x, axes = tensor<int32, [1]>([-1]))",
            count(&[2, 3]),
            tensor(&[2, 3], &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]),
        ),
        case("reverse(x = x)", count(&[2, 2]), tensor(&[2, 2], &[3.0, 2.0, 1.0, 0.0])),
        // Rows 0 to 2 and columns 1 and 2 of a square of 4 (coremltools' own test).
        case(
            "crop(x = x, crop_height = tensor<int32, [2]>([0, 1]), crop_width = tensor<int32, [2]>([1, 1]))",
            count(&[1, 1, 4, 4]),
            tensor(&[1, 1, 3, 2], &[1.0, 2.0, 5.0, 6.0, 9.0, 10.0]),
        ),
        case("flatten2d(x = x)", count(&[2, 3, 2]), count(&[2, 6])),
        case("flatten2d(x = x, axis = int32(-1))", count(&[2, 3, 2]), count(&[6, 2])),
        case("flatten2d(x = x, axis = int32(1))", count(&[3]), count(&[3, 1])),
        case("flatten2d(x = x, axis = int32(-1))", count(&[3]), count(&[1, 3])),
        // Four channels of one pixel become its four neighbours.
        case(
            "pixel_shuffle(x = x, upscale_factor = int32(2))",
            count(&[1, 4, 1, 2]),
            tensor(&[1, 1, 2, 4], &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]),
        ),
        // Channel c·4 + i·2 + j, here of two results of one pixel.
        case(
            "pixel_shuffle(x = x, upscale_factor = int32(2))",
            count(&[1, 8, 1, 1]),
            count(&[1, 2, 2, 2]),
        ),
        case(
            "pixel_unshuffle(x = x, downscale_factor = uint32(2))",
            tensor(&[1, 1, 2, 4], &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]),
            count(&[1, 4, 1, 2]),
        ),
        case(
            "pixel_unshuffle(x = x, downscale_factor = int32(2))",
            count(&[1, 2, 2, 2]),
            count(&[1, 8, 1, 1]),
        ),
        // coremltools' own test: one channel.
        case(
            "space_to_depth(x = x, block_size = int32(2))",
            tensor(&[1, 1, 2, 2], &[7.0, 9.0, 4.0, 6.0]),
            tensor(&[1, 4, 1, 1], &[7.0, 9.0, 4.0, 6.0]),
        ),
        // As TensorFlow orders them, all channels of each place: (i·2 + j)·C + c.
        case(
            "space_to_depth(x = x, block_size = int32(2))",
            count(&[1, 2, 2, 2]),
            tensor(&[1, 8, 1, 1], &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]),
        ),
        case(
            "depth_to_space(x = x, block_size = int32(2))",
            tensor(&[1, 8, 1, 1], &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]),
            count(&[1, 2, 2, 2]),
        ),
        case(
            "depth_to_space(x = x, block_size = int32(2))",
            tensor(&[1, 4, 1, 1], &[9.0, 5.0, 1.0, 3.0]),
            tensor(&[1, 1, 2, 2], &[9.0, 5.0, 1.0, 3.0]),
        ),
        // coremltools' own test.
        case(
            "space_to_batch(x = x, block_shape = tensor<int32, [2]>([2, 2]), \
             paddings = tensor<int32, [2, 2]>([[0, 0], [2, 0]]))",
            tensor(&[2, 1, 2, 4], &(1..17).map(f64::from).collect::<Vec<_>>()),
            tensor(
                &[8, 1, 1, 3],
                &[
                    0.0, 1.0, 3.0, 0.0, 9.0, 11.0, 0.0, 2.0, 4.0, 0.0, 10.0, 12.0, //
                    0.0, 5.0, 7.0, 0.0, 13.0, 15.0, 0.0, 6.0, 8.0, 0.0, 14.0, 16.0,
                ],
            ),
        ),
        case(
            "batch_to_space(x = x, block_shape = tensor<int32, [2]>([2, 2]), \
             crops = tensor<int32, [2, 2]>([[0, 0], [2, 0]]))",
            tensor(
                &[8, 1, 1, 3],
                &[
                    0.0, 1.0, 3.0, 0.0, 9.0, 11.0, 0.0, 2.0, 4.0, 0.0, 10.0, 12.0, //
                    0.0, 5.0, 7.0, 0.0, 13.0, 15.0, 0.0, 6.0, 8.0, 0.0, 14.0, 16.0,
                ],
            ),
            tensor(&[2, 1, 2, 4], &(1..17).map(f64::from).collect::<Vec<_>>()),
        ),
    ]
}
