//! Operations that move elements.

use super::{Case, case, count};

pub(super) fn cases() -> Vec<Case> {
    vec![case("identity(x = x)", count(&[2, 3]), count(&[2, 3]))]
}
