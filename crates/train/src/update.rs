//! An update of all parameters: decided at once, made at once or parameter by parameter beside the next forward
//! pass ([`gpt::Model::updated_loss_and_grads`]).

use crate::optim::{Optimizer, State, Update, tell};
use crate::schedule::LrSchedule;
use gpt::{Deferred, Done, Layout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// An optimizer with what it reads and writes besides the weights. It is shared by the trainer, an update that
/// is not made yet, and the writer of checkpoints.
#[derive(Debug)]
pub(crate) struct Descent {
    optimizer: Box<dyn Optimizer>,
    layout: Layout,
    state: RwLock<State>,
    /// Of all parameters, as they are stored: scaled, not clipped.
    grads: Mutex<Vec<f32>>,
}

impl Descent {
    /// Before the first update of `values`.
    pub(crate) fn new(optimizer: Box<dyn Optimizer>, layout: &Layout, values: &[f32]) -> Self {
        let mut state = State::new(&*optimizer, layout);
        for (index, param) in layout.params().iter().enumerate() {
            optimizer.begin(index, param, &values[param.range()], &mut state.of(index));
        }
        let (state, grads) = (RwLock::new(state), Mutex::new(vec![0.0; layout.count()]));
        Descent { optimizer, layout: layout.clone(), state, grads }
    }

    /// The optimizer's state; an update waits until nobody reads.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to be changed.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gradients.
    pub(crate) fn grads(&self) -> MutexGuard<'_, Vec<f32>> {
        self.grads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the optimizer take what it needs from `grads`.
    pub(crate) fn reduce(&self, grads: &mut [f32]) {
        let mut state = self.state_mut();
        for (index, param) in self.layout.params().iter().enumerate() {
            self.optimizer.reduce(param, &mut grads[param.range()], &mut state.of(index));
        }
    }
}

/// An update that was decided on, as far as it is not made.
#[derive(Debug)]
pub(crate) struct Decided {
    descent: Arc<Descent>,
    schedule: LrSchedule,
    /// Steps before it, and its number among the updates.
    step: u64,
    t: u64,
    /// Of the gradients.
    scale: f32,
    /// For each parameter, true if it is not updated.
    left: Vec<bool>,
}

impl Decided {
    /// The `t`-th update, after `step` steps, by gradients times `scale`.
    pub(crate) fn new(
        descent: &Arc<Descent>,
        schedule: LrSchedule,
        step: u64,
        t: u64,
        scale: f32,
    ) -> Self {
        let (descent, left) = (Arc::clone(descent), vec![true; descent.layout.params().len()]);
        Decided { descent, schedule, step, t, scale, left }
    }
}

impl Deferred for Decided {
    fn update(&mut self, param: usize, w: &mut [f32], g: &[f32], done: &Done<'_>) {
        if !std::mem::take(&mut self.left[param]) {
            return tell(w, done);
        }
        let Descent { optimizer, layout, .. } = &*self.descent;
        let (index, param) = (param, &layout.params()[param]);
        let lr = self.schedule.rate_of(param, self.step) as f32;
        let progress = self.schedule.progress(self.step);
        let update = Update { t: self.t, lr, scale: self.scale, progress };
        let mut state = self.descent.state_mut();
        optimizer.step_by_parts(&update, param, w, g, &mut state.of(index), done);
    }

    fn finish(&mut self, values: &mut [f32]) {
        let descent = Arc::clone(&self.descent);
        let grads = descent.grads();
        for (index, param) in descent.layout.params().iter().enumerate() {
            if self.left[index] {
                let range = param.range();
                self.update(index, &mut values[range.clone()], &grads[range], &|_, _| ());
            }
        }
    }
}
