//! Buffers that are never alive together share memory.

use super::Lowering;
use crate::error::CpuError;
use crate::plan::*;
use mil::ValueId;

impl Lowering<'_> {
    /// Lets buffers that are never alive together share a slot: best fit over the steps in order.
    pub(super) fn finish(mut self) -> Result<Plan, CpuError> {
        let mut last: Vec<usize> = vec![0; self.buffers.len()];
        for (at, step) in self.steps.iter_mut().enumerate() {
            let all = step.inputs_mut().into_iter().map(|b| *b).collect::<Vec<_>>();
            let outputs = step.outputs_mut().into_iter().map(|b| *b).collect::<Vec<_>>();
            for buffer in all.into_iter().chain(outputs) {
                if let Buffer::Slot(i) = buffer {
                    last[i] = at;
                }
            }
        }
        let mut slots: Vec<Space> = vec![];
        let mut home: Vec<Option<usize>> = vec![None; self.buffers.len()];
        let mut free: Vec<usize> = vec![];
        for at in 0..self.steps.len() {
            let step = &mut self.steps[at];
            let mut fresh = vec![];
            for buffer in step.outputs_mut() {
                if let Buffer::Slot(i) = buffer {
                    let Space { elements, half } = self.buffers[*i];
                    let same = || free.iter().enumerate().filter(|&(_, &s)| slots[s].half == half);
                    let fits = same()
                        .filter(|&(_, &s)| slots[s].elements >= elements)
                        .min_by_key(|&(_, &s)| slots[s].elements)
                        .or_else(|| same().max_by_key(|&(_, &s)| slots[s].elements));
                    let slot = match fits.map(|(position, _)| position) {
                        Some(position) => free.swap_remove(position),
                        None => {
                            slots.push(Space { elements, half });
                            slots.len() - 1
                        }
                    };
                    slots[slot].elements = slots[slot].elements.max(elements);
                    home[*i] = Some(slot);
                    fresh.push(*i);
                    *buffer = Buffer::Slot(slot);
                }
            }
            let mut dying: Vec<usize> = fresh.into_iter().filter(|&i| last[i] == at).collect();
            for buffer in step.inputs_mut() {
                if let Buffer::Slot(i) = buffer {
                    let slot = home[*i].expect("written before it is read");
                    if last[*i] == at {
                        dying.push(*i);
                    }
                    *buffer = Buffer::Slot(slot);
                }
            }
            dying.sort_unstable();
            dying.dedup();
            free.extend(dying.into_iter().map(|i| home[i].expect("has a slot")));
        }
        self.drop_unread();
        let count = |id: ValueId| self.f.ty(id).count();
        Ok(Plan {
            steps: self.steps,
            constants: self.constants,
            slots,
            inputs: self.f.inputs().map(count).collect(),
            outputs: self.f.outputs.iter().map(|&id| count(id)).collect(),
        })
    }

    /// Gives up constants that no step reads: attributes, and what other constants were made of.
    fn drop_unread(&mut self) {
        let mut read = vec![false; self.constants.len()];
        for buffer in self.steps.iter_mut().flat_map(Step::inputs_mut) {
            if let Buffer::Constant(i) = *buffer {
                read[i] = true;
            }
        }
        for (constant, _) in self.constants.iter_mut().zip(read).filter(|(_, read)| !read) {
            *constant = Constant::F32(vec![]);
        }
    }
}
