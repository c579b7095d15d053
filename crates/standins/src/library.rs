//! The library as a whole: what it does when it is opened, and when a test starts.

use crate::{client, control, engine, foundation, ioreport, iosurface, runtime};

/// Runs when the library is opened, before anyone looks up a class or reads a constant.
#[used]
#[unsafe(link_section = ".init_array")]
static OPEN: extern "C" fn() = {
    extern "C" fn open() {
        let frameworks = [
            foundation::classes(),
            iosurface::classes(),
            engine::classes(),
            client::classes(),
            ioreport::classes(),
        ];
        runtime::define(frameworks.into_iter().flatten());
        iosurface::fill_keys();
    }
    open
};

/// Forgets faults, violations and what the process has used up. Objects alive stay.
#[unsafe(no_mangle)]
pub extern "C" fn standins_reset() {
    control::reset();
    engine::reset();
}
