//! The input of rules: a well-formed function with its operations resolved.

use super::place::Place;
use crate::machine::{CallPath, Chip, Generation, Os, Profile};
use mil::resolve::Operand;
use mil::{
    Function, Kind, Literal, Op, Operation, Program, Resolved, TensorType, ValueId, resolve,
};

/// A breach before its rule is known.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) message: String,
}

/// An operation that keeps the rules of the language.
pub(super) struct Site<'p> {
    pub(super) index: usize,
    pub(super) op: &'p Operation,
    pub(super) resolved: Resolved<'p>,
}

impl Site<'_> {
    pub(super) fn place(&self) -> Place {
        Place::Operation { index: self.index, name: self.op.name.clone() }
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.resolved.kind
    }

    /// True if the operation is one of `ops`.
    pub(super) fn is(&self, ops: &[Op]) -> bool {
        ops.contains(&self.op.op)
    }
}

/// A function and the machine it is checked for.
pub(super) struct Scope<'p> {
    pub(super) program: &'p Program,
    pub(super) function: &'p Function,
    pub(super) profile: &'p Profile,
    pub(super) sites: Vec<Site<'p>>,
    /// For each value, the place in `sites` of the operation that defines it.
    definitions: Vec<Option<usize>>,
    /// For each value, places in `sites` of the operations that read it.
    users: Vec<Vec<usize>>,
}

impl<'p> Scope<'p> {
    /// Resolves the operations of a function that keeps the rules of the language.
    pub(super) fn new(program: &'p Program, function: &'p Function, profile: &'p Profile) -> Self {
        let mut sites = Vec::with_capacity(function.ops.len());
        let mut definitions = vec![None; function.values.len()];
        let mut users = vec![Vec::new(); function.values.len()];
        for (index, op) in function.ops.iter().enumerate() {
            let Ok(resolved) = resolve(function, op) else { continue };
            op.results.iter().for_each(|r| definitions[r.index()] = Some(sites.len()));
            op.operands().for_each(|id| users[id.index()].push(sites.len()));
            sites.push(Site { index, op, resolved });
        }
        Scope { program, function, profile, sites, definitions, users }
    }

    pub(super) fn ty(&self, id: ValueId) -> &'p TensorType {
        self.function.ty(id)
    }

    pub(super) fn generation(&self) -> Generation {
        self.profile.chip.generation()
    }

    /// M1 and M2, whose engines lack a conversion between fp32 and fp16.
    pub(super) fn before_m3(&self) -> bool {
        self.generation() <= Generation::A14
    }

    pub(super) fn in_memory(&self) -> bool {
        self.profile.path == CallPath::InMemory
    }

    pub(super) fn in_memory_15(&self) -> bool {
        self.in_memory() && self.profile.os == Os::MacOs15
    }

    pub(super) fn on(&self, chip: Chip) -> bool {
        self.profile.chip.measured() == chip
    }

    /// Where a value is defined.
    pub(super) fn place(&self, id: ValueId) -> Place {
        let name = || self.function.value(id).name.clone();
        match self.function.definition(id) {
            None => Place::Parameter(name()),
            Some(index) => Place::Operation { index, name: self.function.ops[index].name.clone() },
        }
    }

    pub(super) fn operand_ty(&self, operand: Operand<'p>) -> &'p TensorType {
        match operand {
            Operand::Value(id) => self.ty(id),
            Operand::Literal(literal) => &literal.ty,
        }
    }

    /// Types of an operation's inputs.
    pub(super) fn inputs(&self, site: &Site<'p>) -> Vec<&'p TensorType> {
        site.resolved.inputs.iter().map(|&input| self.operand_ty(input)).collect()
    }

    /// The constant that an operand is, if it is one.
    pub(super) fn constant(&self, operand: Operand<'p>) -> Option<&'p Literal> {
        match operand {
            Operand::Literal(literal) => Some(literal),
            Operand::Value(id) => self.function.constant(id),
        }
    }

    /// True if an operand is fixed when the program is compiled.
    pub(super) fn is_constant(&self, operand: Operand<'p>) -> bool {
        let folded = |id| {
            let site = self.definition(id);
            site.is_some_and(|s| s.is(&[Op::Const]) || s.op.op.is_constexpr())
        };
        match operand {
            Operand::Literal(_) => true,
            Operand::Value(id) => folded(id),
        }
    }

    pub(super) fn definition(&self, id: ValueId) -> Option<&Site<'p>> {
        self.definitions[id.index()].map(|i| &self.sites[i])
    }

    /// Operations that give `site` its inputs.
    pub(super) fn before<'s>(&'s self, site: &'s Site<'p>) -> impl Iterator<Item = &'s Site<'p>> {
        site.op.operands().filter_map(|id| self.definition(id))
    }

    /// Operations that read what `site` gives.
    pub(super) fn after<'s>(&'s self, site: &'s Site<'p>) -> impl Iterator<Item = &'s Site<'p>> {
        site.op.results.iter().flat_map(|r| &self.users[r.index()]).map(|&i| &self.sites[i])
    }

    /// Parameters and returned values: what surfaces are bound to.
    pub(super) fn ports(&self) -> impl Iterator<Item = (Place, &'p TensorType)> + '_ {
        let name = |id| self.function.value(id).name.clone();
        let inputs =
            self.function.inputs().map(move |id| (Place::Parameter(name(id)), self.ty(id)));
        let outputs = &self.function.outputs;
        inputs.chain(outputs.iter().map(move |&id| (Place::Output(name(id)), self.ty(id))))
    }

    /// One finding per port for which `message` gives one.
    pub(super) fn at_ports(&self, message: impl Fn(&TensorType) -> Option<String>) -> Vec<Found> {
        self.ports()
            .filter_map(|(place, ty)| Some(Found { place, message: message(ty)? }))
            .collect()
    }
}
