//! Parts of a function between named values.

use super::PlanError;
use mil::{Function, Joint, ValueId, grad, passes};
use std::collections::HashSet;

/// A function, with its backward pass or without, whose values can be named.
pub(crate) struct Cuts {
    joint: Result<Joint, Function>,
}

impl Cuts {
    /// Forward and backward pass of `forward`.
    ///
    /// # Errors
    /// When it cannot be differentiated.
    pub(crate) fn joint(forward: &Function) -> Result<Self, PlanError> {
        Ok(Cuts { joint: Ok(grad(forward)?) })
    }

    /// `forward` alone.
    pub(crate) fn forward(forward: Function) -> Self {
        Cuts { joint: Err(forward) }
    }

    fn function(&self) -> &Function {
        self.joint.as_ref().map_or_else(|forward| forward, |joint| &joint.function)
    }

    /// The value called `name`, or the cotangent of NAME for `d_NAME`.
    fn find(&self, name: &str) -> Option<ValueId> {
        match (name.strip_prefix("d_"), &self.joint) {
            (Some(of), Ok(joint)) => joint.find(of).and_then(|of| joint.cotangent(of)),
            (Some(_), Err(_)) => None,
            (None, _) => self.function().find(name),
        }
    }

    /// The names of a list, as in [`super::Cut::given`], that the function has.
    pub(crate) fn names(&self, list: &str) -> Vec<String> {
        let has = |name: &&str| self.find(name).is_some();
        list.split_whitespace().filter_map(|n| n.split('|').find(has)).map(str::to_owned).collect()
    }

    /// The value called `name`; a cotangent gets its name by being asked for.
    fn resolve(&mut self, name: &str) -> ValueId {
        let id = self.find(name).unwrap_or_else(|| panic!("the block has a value `{name}`"));
        if let (true, Ok(joint)) = (name.starts_with("d_"), &mut self.joint) {
            joint.function.values[id.index()].name = name.to_owned();
        }
        id
    }

    /// The program called `name` that computes `gives` from those of `given` that it needs.
    ///
    /// # Errors
    /// When it needs a parameter that is not given.
    pub(crate) fn cut(
        &mut self,
        name: &str,
        given: &[impl AsRef<str>],
        gives: &[impl AsRef<str>],
    ) -> Result<Function, PlanError> {
        let outputs: Vec<_> = gives.iter().map(|n| self.resolve(n.as_ref())).collect();
        let given: Vec<_> = given.iter().map(|n| self.resolve(n.as_ref())).collect();
        let all = passes::slice(self.function(), name, &given, &outputs)?;
        let operands = all.ops.iter().flat_map(|op| op.operands());
        let used: HashSet<ValueId> = operands.chain(all.outputs.iter().copied()).collect();
        let needed = (all.inputs().zip(given)).filter(|(id, _)| used.contains(id));
        let needed: Vec<_> = needed.map(|(_, id)| id).collect();
        Ok(passes::slice(self.function(), name, &needed, &outputs)?)
    }
}
