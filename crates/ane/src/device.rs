//! How a machine is driven: a [`Device`] compiles programs into [`Executable`]s, which run on
//! surfaces.

use crate::error::AneError;
use crate::surface::Surface;
use chip::Profile;
use chip::cost::Estimate;
use mil::{Program, TensorType, Weights};
use std::fmt::Debug;

/// A named input or output of an executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the parameter or of the returned value.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
}

/// The cost of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunReport {
    /// Wall time of the device, in seconds.
    pub seconds: f64,
    /// Time that the hardware says it took, in seconds, where it was asked for and the machine tells.
    pub hardware_seconds: Option<f64>,
}

/// A way of sending a request that only some machines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// With this quality of service, 0 to 63, in place of the usual one.
    Quality(u32),
    /// By the real-time call, within a real-time task.
    RealTime,
    /// Prepared as a chain of one (`_ANEChainingRequest`); no work is done.
    Chained,
}

/// The cost of loading a program again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reloaded {
    /// Seconds of unloading it.
    pub unload_seconds: f64,
    /// Seconds of loading it again.
    pub load_seconds: f64,
}

/// Something that compiles and runs MIL programs.
pub trait Device: Send + Sync + Debug {
    /// One line for people: which machine, which precision.
    fn describe(&self) -> String;

    /// The machine that this is, or whose rules it keeps; `None` for one without an engine's rules.
    fn profile(&self) -> Option<Profile> {
        None
    }

    /// A zeroed surface for a tensor, of at least `allocation` bytes as requests see it.
    ///
    /// # Errors
    /// When the device has no memory for it.
    fn surface(&self, ty: &TensorType, allocation: usize) -> Result<Surface, AneError>;

    /// Smallest allocation, in bytes, of a surface in a request.
    fn least_allocation(&self) -> usize {
        0
    }

    /// Narrowest surface, in tokens, that requests may have.
    fn least_width(&self) -> usize {
        1
    }

    /// True if requests leave the CPU free: work of the host beside them costs nothing.
    fn overlaps(&self) -> bool {
        false
    }

    /// Compiles the first function of `program`; `weights` are the files it names.
    ///
    /// # Errors
    /// When the program breaks a rule of the language or of the machine, or a budget is used up.
    fn compile(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> Result<Box<dyn Executable>, AneError>;

    /// Has the machine compile `text` as it is, a program with the ports of `like`, past every rule of
    /// ours, which its requests do not keep either: for questions to the machine alone
    /// (crate `lab`). `None` where no rules of ours stand before another's.
    fn compile_unchecked(
        &self,
        _text: &str,
        _weights: &Weights,
        _like: &Program,
    ) -> Option<Result<Box<dyn Executable>, AneError>> {
        None
    }
}

/// Writes the methods of a [`Device`] that wraps another, in its field `$inside`, as calls of that one's.
///
/// `as_inside!(device)` writes all but `describe`, `compile` and `compile_unchecked`; with `, unchecked`
/// also `compile_unchecked`; with `, but overlaps` all but `overlaps` too. A new method of [`Device`] with a
/// default goes in here, so that no wrapper hides it. The caller's crate depends on `chip` and `mil`.
#[macro_export]
macro_rules! as_inside {
    ($inside:ident, unchecked) => {
        $crate::as_inside!($inside);

        fn compile_unchecked(
            &self,
            text: &str,
            weights: &mil::Weights,
            like: &mil::Program,
        ) -> Option<Result<Box<dyn $crate::device::Executable>, $crate::error::AneError>> {
            self.$inside.compile_unchecked(text, weights, like)
        }
    };
    ($inside:ident) => {
        $crate::as_inside!($inside, but overlaps);

        fn overlaps(&self) -> bool {
            self.$inside.overlaps()
        }
    };
    ($inside:ident, but overlaps) => {
        fn profile(&self) -> Option<chip::Profile> {
            self.$inside.profile()
        }

        fn least_allocation(&self) -> usize {
            self.$inside.least_allocation()
        }

        fn least_width(&self) -> usize {
            self.$inside.least_width()
        }

        fn surface(
            &self,
            ty: &mil::TensorType,
            allocation: usize,
        ) -> Result<$crate::surface::Surface, $crate::error::AneError> {
            self.$inside.surface(ty, allocation)
        }
    };
}

/// A compiled, loaded program.
///
/// Ports are in the order in which surfaces are bound: alphabetical by name, whatever the order in
/// the text (docs/ane-facts.md C.1).
pub trait Executable: Send + Debug {
    /// Input ports in binding order.
    fn inputs(&self) -> &[Port];

    /// Output ports in binding order.
    fn outputs(&self) -> &[Port];

    /// How long a run takes on the chip that the device is or emulates; a forecast, if there is one.
    fn forecast(&self) -> Option<&Estimate> {
        None
    }

    /// Runs on surfaces given in binding order.
    ///
    /// # Errors
    /// When a surface does not fit its port, or the machine refuses the request.
    fn run(&mut self, inputs: &[&Surface], outputs: &[&Surface]) -> Result<RunReport, AneError>;

    /// As [`Executable::run`], in another way; `None` where the machine does not have it.
    ///
    /// # Errors
    /// As for [`Executable::run`].
    fn run_by(
        &mut self,
        _call: Call,
        _inputs: &[&Surface],
        _outputs: &[&Surface],
    ) -> Result<Option<RunReport>, AneError> {
        Ok(None)
    }

    /// Unloads the program, writes `weights` over its weight files, and loads it again without
    /// compiling; `None` where a loaded program has no such files. By the facts in force its
    /// constants stay what they were (G2-rewritten-files), so this is a question to the machine
    /// (crate `lab`) and no way to update weights.
    ///
    /// # Errors
    /// When the machine refuses, or does not end in time: the program is lost then, and runs no more.
    fn reload(&mut self, _weights: &Weights) -> Result<Option<Reloaded>, AneError> {
        Ok(None)
    }
}
