//! Runs the steps of a schedule: in turn, or side by side on two lanes, the engine's on a thread of its own.

use crate::plan::{Lanes, next};
use ane::AneError;
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Instant;

/// A step that ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    /// Its number in the schedule.
    pub(crate) step: usize,
    /// Seconds from the first step on.
    pub(crate) start: f64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
}

impl Span {
    /// Runs a step.
    fn of(
        step: usize,
        from: Instant,
        run: impl FnOnce(usize) -> Result<(), AneError>,
    ) -> Result<Span, AneError> {
        let begin = Instant::now();
        run(step)?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Span { step, start: (begin - from).as_secs_f64(), seconds })
    }
}

/// Runs the step of this number.
pub(crate) type Run<'r> = dyn FnMut(usize) -> Result<(), AneError> + Send + 'r;

/// Runs `count` steps one after the other.
///
/// # Errors
/// The error of the first step that fails.
pub(crate) fn in_turn(
    from: Instant,
    count: usize,
    run: &mut dyn FnMut(usize) -> Result<(), AneError>,
) -> Result<Vec<Span>, AneError> {
    (0..count).map(|step| Span::of(step, from, &mut *run)).collect()
}

/// Runs the steps of both lanes: those of the engine on another thread, those of the host on this one.
///
/// # Errors
/// When a step fails: its lane ends at once, the other one after the step that it runs. If both lanes fail, the
/// error is that of the step that comes first in the schedule. When the system has no thread left.
pub(crate) fn side_by_side(
    lanes: &Lanes,
    from: Instant,
    engine: &mut Run<'_>,
    host: &mut dyn FnMut(usize) -> Result<(), AneError>,
) -> Result<Vec<Span>, AneError> {
    let board = Board::new(lanes);
    let no_thread = |e: std::io::Error| AneError::NoThread {
        reason: format!("no thread could be started: {e}"),
    };
    let [engine, host] = std::thread::scope(|scope| {
        let work = || board.work(&lanes.engine, true, from, engine);
        let engine = Builder::new()
            .name("engine".to_owned())
            .spawn_scoped(scope, work)
            .map_err(no_thread)?;
        let host = board.work(&lanes.host, false, from, host);
        Ok::<_, AneError>([engine.join().unwrap_or_else(|panic| resume_unwind(panic)), host])
    })?;
    match (engine, host) {
        (Ok(engine), Ok(host)) => {
            let mut all = [engine, host].concat();
            all.sort_by(|a, b| a.start.total_cmp(&b.start));
            Ok(all)
        }
        (Err(one), Err(other)) => Err(if one.step < other.step { one.error } else { other.error }),
        (Err(failed), Ok(_)) | (Ok(_), Err(failed)) => Err(failed.error),
    }
}

/// A step that failed.
struct Failed {
    step: usize,
    error: AneError,
}

/// The progress of both lanes.
struct Board<'l> {
    lanes: &'l Lanes,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// By the number of the step.
    done: Vec<bool>,
    /// True once a lane has failed.
    stopped: bool,
}

/// Stops both lanes when one of them is left before its end, by an error or a panic.
struct Leaving<'b, 'l>(Option<&'b Board<'l>>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        if let Some(board) = self.0 {
            board.change(|state| state.stopped = true);
        }
    }
}

impl<'l> Board<'l> {
    fn new(lanes: &'l Lanes) -> Self {
        let state = State { done: vec![false; lanes.after.len()], stopped: false };
        Board { lanes, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Runs the steps of a lane; fewer, without an error, if the other one fails.
    fn work(
        &self,
        order: &[usize],
        in_order: bool,
        from: Instant,
        run: &mut (impl FnMut(usize) -> Result<(), AneError> + ?Sized),
    ) -> Result<Vec<Span>, Failed> {
        let (mut left, mut spans) = (order.to_vec(), vec![]);
        let mut leaving = Leaving(Some(self));
        while let Some(step) = self.take(&mut left, in_order) {
            let span = Span::of(step, from, &mut *run).map_err(|error| Failed { step, error })?;
            spans.push(span);
            self.change(|state| state.done[step] = true);
        }
        leaving.0 = None;
        Ok(spans)
    }

    /// Waits for the next step of a lane; `None` where none is left, or the lanes have stopped.
    fn take(&self, left: &mut Vec<usize>, in_order: bool) -> Option<usize> {
        let mut state = self.lock();
        while !state.stopped && !left.is_empty() {
            let ready = |step: usize| self.lanes.after[step].iter().all(|&s| state.done[s]);
            if let Some(place) = next(left, in_order, ready) {
                return Some(left.remove(place));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GptConfig;
    use crate::block::Memory;
    use crate::ops::Dims;
    use crate::plan::{PLANS, Part, Schedule, Step};
    use mil::DType;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    /// 0 engine, 1 host after it, 2 engine, 3 host after 2, 4 engine after both.
    fn lanes() -> Lanes {
        let after = vec![vec![], vec![0], vec![0], vec![2], vec![1, 3]];
        Lanes { after, engine: vec![0, 2, 4], host: vec![1, 3] }
    }

    fn failing(reason: &str) -> Result<(), AneError> {
        Err(AneError::NoEngine { reason: reason.to_owned() })
    }

    #[test]
    fn lanes_start_by_the_clock_of_the_forecast() {
        assert_eq!(lanes().starts(&[3.0, 6.0, 3.0, 3.0, 3.0]), [0.0, 3.0, 3.0, 9.0, 12.0]);
    }

    /// Steps that are done, as the steps themselves say.
    struct Progress {
        done: Mutex<Vec<bool>>,
        changed: Condvar,
    }

    impl Progress {
        /// Ends `step`, once all of `others` are done. They have a minute: lanes that do not run side by side
        /// fail the test.
        fn end(&self, step: usize, others: &[usize]) {
            let (minute, done) = (Duration::from_secs(60), self.done.lock().unwrap());
            let missing = |done: &mut Vec<bool>| others.iter().any(|&other| !done[other]);
            let (mut done, waited) =
                self.changed.wait_timeout_while(done, minute, missing).unwrap();
            assert!(!waited.timed_out(), "{step} waits for {others:?}");
            done[step] = true;
            self.changed.notify_all();
        }
    }

    /// Steps of a lane that can be done before any other step of the other lane.
    fn possible(lanes: &Lanes, order: &[usize], in_order: bool, done: &[bool]) -> Vec<usize> {
        let (mut done, mut found) = (done.to_vec(), vec![]);
        let mut left: Vec<usize> = order.iter().copied().filter(|&step| !done[step]).collect();
        while let Some(place) = next(&left, in_order, |s| lanes.after[s].iter().all(|&b| done[b])) {
            found.push(left.remove(place));
            done[found[found.len() - 1]] = true;
        }
        found
    }

    /// Runs `lanes` so that each step of one lane lasts until the other lane has done all that it can beside it.
    fn run_beside(lanes: &Lanes, engine_waits: bool) {
        let done = Mutex::new(vec![false; lanes.after.len()]);
        let progress = Progress { done, changed: Condvar::new() };
        let (order, in_order) =
            if engine_waits { (&lanes.host, false) } else { (&lanes.engine, true) };
        let step = |step: usize, waits: bool| {
            let done = progress.done.lock().unwrap().clone();
            assert!(lanes.after[step].iter().all(|&before| done[before]), "{step} is too early");
            let others = if waits { possible(lanes, order, in_order, &done) } else { vec![] };
            progress.end(step, &others);
            Ok(())
        };
        let mut engine = |i| step(i, engine_waits);
        let mut host = |i| step(i, !engine_waits);
        let spans = side_by_side(lanes, Instant::now(), &mut engine, &mut host).unwrap();
        assert!(spans.windows(2).all(|pair| pair[0].start <= pair[1].start));
        assert_eq!(spans.len(), lanes.after.len());
    }

    #[test]
    fn each_lane_does_all_that_it_can_beside_a_step_of_the_other() {
        let config = GptConfig { n_layer: 3, ..GptConfig::preset("tiny").unwrap() };
        let dims = Dims { config: &config, batch: 1, seq: 64, dtype: DType::Fp16 };
        for plan in PLANS {
            let schedule = Schedule::new(plan, &dims, Memory::Sequence).unwrap();
            let lanes = Lanes::new(&schedule);
            for lanes in [&lanes, &Lanes::after_update(&schedule)] {
                run_beside(lanes, true);
                run_beside(lanes, false);
            }
            // Four gradients of the first layer may have to wait for the last request.
            let steps: Vec<&Step> = schedule.steps().collect();
            let is_gradient = |&step: &&Step| schedule.part(step) == Part::WeightGradients;
            let all = schedule.steps().filter(is_gradient).count();
            let (mut done, mut gradients) = (vec![false; steps.len()], 0);
            for &request in &lanes.engine {
                for step in possible(&lanes, &lanes.host, false, &done) {
                    done[step] = true;
                    gradients += usize::from(is_gradient(&steps[step]));
                }
                done[request] = true;
            }
            assert!(gradients + 4 >= all, "{}: {gradients} of {all}", plan.name);
        }
    }

    #[test]
    fn an_error_of_either_lane_ends_both() {
        let mut fine = |_: usize| Ok(());
        let mut second = |step| if step == 2 { failing("engine") } else { Ok(()) };
        let error = side_by_side(&lanes(), Instant::now(), &mut second, &mut fine).unwrap_err();
        assert!(error.to_string().contains("engine"), "{error}");
        let mut fails = |step| if step == 1 { failing("host") } else { Ok(()) };
        let error = side_by_side(&lanes(), Instant::now(), &mut fine, &mut fails).unwrap_err();
        assert!(error.to_string().contains("host"), "{error}");
        // Both at once: that of the earlier step.
        let barrier = std::sync::Barrier::new(2);
        let mut one = |step| {
            if step == 2 {
                barrier.wait();
                return failing("engine");
            }
            Ok(())
        };
        let mut other = |_| {
            barrier.wait();
            failing("host")
        };
        let error = side_by_side(&lanes(), Instant::now(), &mut one, &mut other).unwrap_err();
        assert!(error.to_string().contains("host"), "{error}");
    }

    #[test]
    fn a_panic_of_either_lane_is_one_of_the_caller() {
        let mut fine = |_: usize| Ok(());
        let mut panics = |_: usize| panic!("as the test wants it");
        let caught = |run: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(run)).is_err();
        assert!(caught(&mut || {
            drop(side_by_side(&lanes(), Instant::now(), &mut panics, &mut |_| Ok(())));
        }));
        assert!(caught(&mut || {
            let mut panics = |_: usize| panic!("as the test wants it");
            drop(side_by_side(&lanes(), Instant::now(), &mut fine, &mut panics));
        }));
    }
}
