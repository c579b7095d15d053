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

/// What runs a step, by its number.
pub(crate) type Run<'r> = dyn FnMut(usize) -> Result<(), AneError> + Send + 'r;

/// Runs `count` steps one after the other.
///
/// # Errors
/// That of the first step that fails.
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
/// When a step fails: its lane ends, and the other one after the step that it is busy with. If both lanes
/// fail, the error is that of the step that comes first in the schedule.
pub(crate) fn side_by_side(
    lanes: &Lanes,
    from: Instant,
    engine: &mut Run<'_>,
    host: &mut dyn FnMut(usize) -> Result<(), AneError>,
) -> Result<Vec<Span>, AneError> {
    let board = Board::new(lanes);
    let lost = |e| AneError::NoEngine { reason: format!("no thread for requests: {e}") };
    let [engine, host] = std::thread::scope(|scope| {
        let work = || board.work(&lanes.engine, true, from, engine);
        let engine =
            Builder::new().name("engine".to_owned()).spawn_scoped(scope, work).map_err(lost)?;
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

/// Where the lanes tell each other how far they are.
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
    use crate::plan::{BASELINE, Part, Schedule, Step};
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
    fn lanes_run_side_by_side_and_wait_for_each_other() {
        let wait = |step: usize| {
            std::thread::sleep(Duration::from_millis(if step == 1 { 60 } else { 30 }));
            Ok(())
        };
        let (mut engine, mut host) = (wait, wait);
        let spans = side_by_side(&lanes(), Instant::now(), &mut engine, &mut host).unwrap();
        let span = |step| spans.iter().find(|s: &&Span| s.step == step).unwrap();
        let end = |step| span(step).start + span(step).seconds;
        assert!(span(1).start >= end(0) && span(4).start >= end(3).max(end(1)), "{spans:?}");
        // While the host is busy with 1, the engine runs 2.
        assert!(span(2).start < end(1) && end(2) < end(1), "{spans:?}");
        assert!(spans.windows(2).all(|pair| pair[0].start <= pair[1].start));
        // Another order of the same times: by the clock of the forecast.
        let starts = lanes().starts(&[3.0, 6.0, 3.0, 3.0, 3.0]);
        assert_eq!(starts, [0.0, 3.0, 3.0, 9.0, 12.0]);
    }

    /// The steps of a model, asleep, so that nothing that others do on this machine slows them down.
    #[test]
    fn both_lanes_of_a_plan_take_the_time_of_the_longer_and_what_cannot_overlap() {
        let config = GptConfig { n_layer: 3, ..GptConfig::preset("tiny").unwrap() };
        let dims = Dims { config: &config, batch: 1, seq: 64, dtype: DType::Fp16 };
        let schedule = Schedule::new(&BASELINE, &dims, Memory::Sequence).unwrap();
        let lanes = Lanes::new(&schedule);
        let price = |step: &Step| match schedule.part(step) {
            Part::EngineForward | Part::EngineBackward => 0.02,
            Part::WeightGradients => 0.01,
            Part::Head => 0.03,
            Part::Io | Part::Elementwise => 0.002,
        };
        let seconds: Vec<f64> = schedule.steps().map(price).collect();
        let ends = lanes.starts(&seconds).into_iter().zip(&seconds).map(|(a, b)| a + b);
        let (expected, all) = (ends.fold(0.0, f64::max), seconds.iter().sum::<f64>());
        assert!(all > 1.25 * expected, "{all} {expected}");
        let sleep = |step: usize| {
            std::thread::sleep(Duration::from_secs_f64(seconds[step]));
            Ok(())
        };
        let mut wall = f64::INFINITY;
        for _ in 0..5 {
            let (start, mut engine, mut host) = (Instant::now(), sleep, sleep);
            side_by_side(&lanes, start, &mut engine, &mut host).unwrap();
            wall = start.elapsed().as_secs_f64().min(wall);
            if wall < 1.15 * expected {
                return;
            }
        }
        panic!("{wall} of {expected}; in turn {all}");
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
