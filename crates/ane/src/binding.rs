//! Surfaces bound to ports: in which order, and what a request must satisfy.

use crate::device::Port;
use crate::error::AneError;
use crate::surface::Surface;
use chip::Profile;

/// Ports in binding order, with the position of each in the function's own order.
#[derive(Debug)]
pub struct Binding {
    /// In binding order.
    pub ports: Vec<Port>,
    /// For each position in the function's order, the position in binding order.
    pub place: Vec<usize>,
}

/// Binds ports given in the function's own order.
pub fn alphabetical(ports: Vec<Port>) -> Binding {
    let mut order: Vec<usize> = (0..ports.len()).collect();
    order.sort_by(|&a, &b| ports[a].name.cmp(&ports[b].name));
    let mut place = vec![0; ports.len()];
    order.iter().enumerate().for_each(|(binding, &own)| place[own] = binding);
    Binding { ports: order.iter().map(|&i| ports[i].clone()).collect(), place }
}

/// Checks a request: number, types and allocations of its surfaces, and that no output is written
/// into another surface of the request.
///
/// # Errors
/// The first breach, with the machine's words.
pub fn check_request(
    profile: Option<&Profile>,
    (inputs, given): (&Binding, &[&Surface]),
    (outputs, written): (&Binding, &[&Surface]),
) -> Result<(), AneError> {
    check_surfaces(profile, (inputs, given), (outputs, written))?;
    check_sharing(&inputs.ports, given, (outputs, written))
}

/// Checks number, types and allocations of the surfaces of a request.
///
/// # Errors
/// The first breach, with the machine's words.
pub fn check_surfaces(
    profile: Option<&Profile>,
    (inputs, given): (&Binding, &[&Surface]),
    (outputs, written): (&Binding, &[&Surface]),
) -> Result<(), AneError> {
    for (what, binding, surfaces) in [("input", inputs, given), ("output", outputs, written)] {
        let expected = binding.ports.len();
        if surfaces.len() != expected {
            return Err(AneError::SurfaceCount { what, expected, got: surfaces.len() });
        }
        for (port, surface) in binding.ports.iter().zip(surfaces) {
            if port.ty != *surface.ty() {
                return Err(AneError::SurfaceType {
                    port: port.name.clone(),
                    expected: port.ty.clone(),
                    got: surface.ty().clone(),
                });
            }
        }
        if let Some(profile) = profile {
            let sizes: Vec<usize> = surfaces.iter().map(|s| s.allocation()).collect();
            profile.check_allocations(&sizes).map_err(|fault| AneError::allocation(what, fault))?;
        }
    }
    Ok(())
}

/// Checks that no output is written into another output, or into one of `given`.
///
/// # Errors
/// [`AneError::SurfaceShared`].
pub fn check_sharing(
    ports: &[Port],
    given: &[&Surface],
    (outputs, written): (&Binding, &[&Surface]),
) -> Result<(), AneError> {
    for (i, out) in written.iter().enumerate() {
        let others = ports.iter().zip(given).chain(outputs.ports.iter().zip(written).take(i));
        for (port, other) in others {
            if out.same(other) {
                let (a, b) = (outputs.ports[i].name.clone(), port.name.clone());
                return Err(AneError::SurfaceShared { a, b });
            }
        }
    }
    Ok(())
}
