//! Two lanes: which steps of a schedule wait for which, and the order in which engine and host take them.
//!
//! A step waits for the last writer of what it reads, and for the readers and the writer of what it writes.
//! Nothing else orders the lanes. To add to something is to write it, so sums keep their order: results do not
//! depend on which lane is faster.
//!
//! The engine takes its steps in the order of the schedule. The host takes first what the engine
//! waits for soonest; weight gradients, for which it waits last or not at all, fill the time between.
//! So an update goes through the layers from the first to the last, as the requests that read them do, and
//! ends with what the head alone reads.

use super::schedule::{Schedule, Sink, Source, Step};
use super::{Part, Place, inputs, outputs};
use std::collections::{BTreeMap, BTreeSet};

/// Something that steps exchange; indices are those of the schedule. Gradients and weights are named by the first of
/// their elements: those that overlap begin together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exchanged {
    Value(usize),
    Array(usize),
    Gradient(usize),
    /// The master weights of a parameter.
    Weights(usize),
    /// The state of the head between its steps.
    Head,
}

/// The order of the steps of a schedule on two lanes. Steps are numbered in the order of the schedule,
/// those of the backward pass after those of the forward pass, and those of an update before both.
#[derive(Clone, Debug, PartialEq)]
pub struct Lanes {
    /// For each step, the steps that must be done before it begins.
    pub after: Vec<Vec<usize>>,
    /// The engine's steps: each begins when the one before it is done, and what it waits for.
    pub engine: Vec<usize>,
    /// The host's steps, most urgent first: of those that wait for nothing, it takes the first.
    pub host: Vec<usize>,
}

impl Lanes {
    /// The lanes of a micro-batch of `schedule`.
    pub fn new(schedule: &Schedule) -> Self {
        Self::of(schedule, &schedule.steps().collect::<Vec<_>>())
    }

    /// The lanes of a micro-batch that begins with an update. Its steps are numbered first.
    pub fn after_update(schedule: &Schedule) -> Self {
        Self::of(schedule, &schedule.steps_after_update().collect::<Vec<_>>())
    }

    fn of(schedule: &Schedule, steps: &[&Step]) -> Self {
        let (after, n) = (after(schedule, steps), steps.len());
        let (engine, mut host): (Vec<usize>, Vec<usize>) =
            (0..n).partition(|&i| steps[i].place() == Place::Engine);
        // The first step of the engine that waits for a step, if there is one.
        let mut deadline = vec![n; n];
        engine.iter().for_each(|&i| deadline[i] = i);
        for i in (0..n).rev() {
            after[i]
                .iter()
                .for_each(|&before| deadline[before] = deadline[before].min(deadline[i]));
        }
        host.sort_by_key(|&i| (deadline[i], i));
        Lanes { after, engine, host }
    }

    /// When each step begins, where step `i` takes `seconds[i]`.
    pub fn starts(&self, seconds: &[f64]) -> Vec<f64> {
        let n = seconds.len();
        let mut waits: Vec<usize> = self.after.iter().map(Vec::len).collect();
        let mut next: Vec<Vec<usize>> = vec![vec![]; n];
        for (step, after) in self.after.iter().enumerate() {
            after.iter().for_each(|&before| next[before].push(step));
        }
        // The place of each step of the host in its order, and the places of those that wait for nothing.
        let mut place = vec![None; n];
        self.host.iter().enumerate().for_each(|(at, &step)| place[step] = Some(at));
        let free = |step: usize| place[step].filter(|_| waits[step] == 0);
        let mut ready: BTreeSet<usize> = (0..n).filter_map(free).collect();
        let (mut starts, mut engine) = (vec![0.0; n], self.engine.iter().peekable());
        let (mut now, mut left, mut busy) = (0.0, n, [None::<(f64, usize)>; 2]);
        while left > 0 {
            let mut moved = false;
            for lane in 0..2 {
                for running in &mut busy {
                    let Some((_, done)) = running.take_if(|(end, _)| *end <= now) else { continue };
                    (left, moved) = (left - 1, true);
                    for &step in &next[done] {
                        waits[step] -= 1;
                        ready.extend(place[step].filter(|_| waits[step] == 0));
                    }
                }
                if busy[lane].is_some() {
                    continue;
                }
                let step = match lane {
                    0 => engine.next_if(|&&step| waits[step] == 0).copied(),
                    _ => ready.pop_first().map(|at| self.host[at]),
                };
                if let Some(step) = step {
                    (starts[step], busy[lane]) = (now, Some((now + seconds[step], step)));
                    moved = true;
                }
            }
            if !moved {
                // Both lanes are busy or wait: until the next step is done.
                let running = busy.iter().flatten().map(|(end, _)| *end);
                now = running.fold(f64::INFINITY, f64::min);
                assert!(now.is_finite(), "what remains waits for itself");
            }
        }
        starts
    }
}

/// Place among `left` of the step that a lane takes next, if one is `ready`: the first, or, unless it keeps
/// to their order, the first that is ready.
pub(crate) fn next(left: &[usize], in_order: bool, ready: impl Fn(usize) -> bool) -> Option<usize> {
    let window = if in_order { 1 } else { left.len() };
    left.iter().take(window).position(|&step| ready(step))
}

fn after(schedule: &Schedule, steps: &[&Step]) -> Vec<Vec<usize>> {
    // Of each thing, the last step that wrote it and those that read it since.
    let mut known: BTreeMap<Exchanged, (Option<usize>, Vec<usize>)> = BTreeMap::new();
    let mut all = vec![];
    for (i, step) in steps.iter().enumerate() {
        let [reads, writes] = schedule.reads_and_writes(step);
        let mut after = vec![];
        for thing in reads {
            let (writer, readers) = known.entry(thing).or_default();
            after.extend(*writer);
            readers.push(i);
        }
        for thing in writes {
            let (writer, readers) = known.entry(thing).or_default();
            after.extend(writer.replace(i));
            after.append(readers);
        }
        after.retain(|&before| before != i);
        after.sort_unstable();
        after.dedup();
        all.push(after);
    }
    all
}

/// A step on the clock: of a forecast, which no hardware confirms, or of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedStep {
    /// What it does: the name of its program, or a few words.
    pub name: String,
    /// The layer that it is of, if it is of one.
    pub layer: Option<usize>,
    /// The part of a training step that it counts to.
    pub part: Part,
    /// The lane that is busy with it.
    pub place: Place,
    /// Seconds from the start of the micro-batch.
    pub start: f64,
    /// Seconds that it takes.
    pub seconds: f64,
}

impl Step {
    /// The place that runs it.
    pub fn place(&self) -> Place {
        if matches!(self, Step::Run { .. }) { Place::Engine } else { Place::Host }
    }
}

impl Schedule {
    /// `step` on the clock.
    pub(crate) fn timed(&self, step: &Step, start: f64, seconds: f64) -> TimedStep {
        let (name, layer) = self.describe(step);
        TimedStep { name, layer, part: self.part(step), place: step.place(), start, seconds }
    }

    /// Returns what `step` reads, and what it writes or adds to.
    fn reads_and_writes(&self, step: &Step) -> [Vec<Exchanged>; 2] {
        use Exchanged::{Array, Gradient, Head, Value, Weights};
        let of_head = |thing: fn(usize) -> Exchanged| {
            self.head_parameters.iter().map(move |range| thing(range.start))
        };
        match step {
            Step::Update { range, .. } => {
                let held = self.values_of(range.start).map(|(value, _)| Value(value));
                let written = std::iter::once(Weights(range.start)).chain(held);
                [vec![Gradient(range.start)], written.collect()]
            }
            Step::Gather { table, to, .. } => [vec![Weights(table.start)], vec![Array(*to)]],
            Step::Load { from, to } => [vec![Array(*from)], vec![Value(*to)]],
            Step::Run { program, layer } => {
                let function = &self.programs[*program].function;
                [inputs(function), outputs(function)]
                    .map(|names| names.iter().map(|name| Value(self.value(name, *layer))).collect())
            }
            Step::Add { value, from, to } => [vec![Value(*value), Array(*from)], vec![Array(*to)]],
            Step::Join { from, to } => [vec![Array(*from)], vec![Array(*to)]],
            Step::Append { value, cache } => [vec![Value(*value)], vec![Value(*cache)]],
            Step::Unload { from, to } => [vec![Value(*from)], vec![Array(*to)]],
            Step::Losses { probs } => [vec![Value(*probs)], vec![Head]],
            // It clears the gradients of rows that no logit reads.
            Step::Cotangents { probs, to } => {
                let rows = of_head(Gradient);
                [vec![Value(*probs)], std::iter::once(Value(*to)).chain(rows).collect()]
            }
            Step::Head { stream } => {
                let read = std::iter::once(Array(*stream)).chain(of_head(Weights));
                [read.collect(), vec![Head]]
            }
            Step::HeadBackward { stream, to } => {
                let read = std::iter::once(Array(*stream)).chain(of_head(Weights));
                let own = [Head, Array(*to)].into_iter();
                [read.collect(), own.chain(of_head(Gradient)).collect()]
            }
            Step::Host { inputs, outputs, .. } => {
                let read = |source: &Source| match source {
                    Source::Array(n) => Array(*n),
                    Source::Value(n) => Value(*n),
                    Source::Parameter(range) => Weights(range.start),
                };
                let written = |sink: &Sink| match sink {
                    Sink::Array { to, .. } => Array(*to),
                    Sink::Gradient(range) => Gradient(range.start),
                };
                [inputs.iter().map(read).collect(), outputs.iter().map(written).collect::<Vec<_>>()]
            }
            Step::Accumulate { value, gradient } => {
                [vec![Value(*value)], vec![Gradient(gradient.start)]]
            }
            Step::Scatter { table, from, .. } => [vec![Array(*from)], vec![Gradient(table.start)]],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As [`Lanes::starts`] says it: at every moment, each lane that is free looks at all that is left.
    fn looked_for(lanes: &Lanes, seconds: &[f64]) -> Vec<f64> {
        let (mut now, mut free) = (0.0, [0.0; 2]);
        let mut left = [lanes.engine.clone(), lanes.host.clone()];
        let (mut ends, mut starts) = (vec![f64::INFINITY; seconds.len()], vec![0.0; seconds.len()]);
        while left.iter().any(|steps| !steps.is_empty()) {
            let mut begun = false;
            for lane in 0..2 {
                let ready =
                    |step: usize| lanes.after[step].iter().all(|&before| ends[before] <= now);
                let found = (free[lane] <= now).then(|| next(&left[lane], lane == 0, ready));
                if let Some(place) = found.flatten() {
                    let step = left[lane].remove(place);
                    (starts[step], begun) = (now, true);
                    free[lane] = now + seconds[step];
                    ends[step] = free[lane];
                }
            }
            if !begun {
                now = free.into_iter().filter(|&end| end > now).fold(f64::INFINITY, f64::min);
                assert!(now.is_finite());
            }
        }
        starts
    }

    #[test]
    fn lanes_start_as_if_each_looked_at_all_that_is_left() {
        let mut state = 7u64;
        let mut random = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for n in 1..60 {
            let after = (0..n).map(|step| {
                let mut before: Vec<usize> =
                    (0..random(3).min(step)).map(|_| random(step)).collect();
                before.sort_unstable();
                before.dedup();
                before
            });
            let after: Vec<Vec<usize>> = after.collect();
            let (engine, mut host): (Vec<usize>, Vec<usize>) = (0..n).partition(|_| random(2) == 0);
            // Any order of the host, as deadlines give it.
            host.sort_by_key(|step| (step * 7919) % 31);
            let lanes = Lanes { after, engine, host };
            // Steps that take no time, and ends at the same moment, among them.
            let seconds: Vec<f64> = (0..n).map(|_| random(4) as f64).collect();
            assert_eq!(lanes.starts(&seconds), looked_for(&lanes, &seconds), "{lanes:?}");
        }
    }
}
