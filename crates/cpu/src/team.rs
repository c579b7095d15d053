//! Threads that stand by between short pieces of work.
//!
//! A forward pass for a few tokens is some hundred products, many of which take less time than waking a
//! thread does. [`assemble`] keeps the threads of the current rayon pool at hand while a function runs:
//! they wait for work in a loop, at first without the system's help, and after some microseconds let
//! others run each time they find none. What the function then divides among threads begins without a
//! system call.
//!
//! On a busy machine a thread may come late or not at all. Nobody waits for it: work consists of units that
//! whoever is there takes, and the leader waits only for those who are in the middle of one.
#![allow(
    unsafe_code,
    reason = "work that borrows the leader's stack, and threads that write disjoint chunks"
)]

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Looks for work, some ten nanoseconds each, before a thread lets others run.
const SPINS: usize = 1000;

/// What takes units of work until there are none.
type Work<'w> = dyn Fn() + Sync + 'w;

/// What a leader and its helpers share.
struct Team {
    /// Odd while there is work.
    turn: AtomicUsize,
    /// The work of an odd turn.
    work: UnsafeCell<Option<*const Work<'static>>>,
    /// Helpers that are, or are about to be, at work.
    inside: AtomicUsize,
    over: AtomicBool,
}

// SAFETY: the leader writes `work` while the turn is even and nobody is inside; helpers read it after
// they have announced themselves and have seen the turn still odd.
unsafe impl Sync for Team {}

thread_local! {
    /// The team that this thread leads.
    static LED: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

/// Runs `f` with the threads of the current rayon pool standing by for [`fan_out`].
pub fn assemble<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let team = Team {
        turn: AtomicUsize::new(0),
        work: UnsafeCell::new(None),
        inside: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    rayon::scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| team.help());
        }
        let _led = Led::new(&team);
        f()
    })
}

/// Leads a team until dropped.
struct Led<'t>(&'t Team, *const Team);

impl<'t> Led<'t> {
    fn new(team: &'t Team) -> Self {
        Led(team, LED.replace(team))
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        LED.set(self.1);
        self.0.over.store(true, Ordering::Release);
    }
}

/// Work that helpers can see until this is dropped.
struct Open<'t>(&'t Team);

impl Drop for Open<'_> {
    /// Waits for those who are inside, even when the leader's share of the work panics.
    fn drop(&mut self) {
        let Open(team) = self;
        team.turn.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0;
        while team.inside.load(Ordering::SeqCst) > 0 {
            pause(&mut spins);
        }
        LED.set(*team);
    }
}

/// A helper at work, until dropped.
struct Inside<'t>(&'t Team);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

fn pause(spins: &mut usize) {
    *spins += 1;
    if *spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

impl Team {
    /// Has all who stand by take part in `work`; returns when it is done.
    fn run(&self, work: &Work<'_>) {
        // SAFETY: only the lifetime is changed; `Open` keeps the borrow until nobody uses it.
        let lent: *const Work<'static> =
            unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: the turn is even and nobody is inside.
        unsafe { *self.work.get() = Some(lent) };
        // What the work divides in its turn is not for the team.
        LED.set(std::ptr::null());
        self.turn.fetch_add(1, Ordering::SeqCst);
        let _open = Open(self);
        work();
    }

    /// Takes part in work until the team is dissolved.
    fn help(&self) {
        let (mut done, mut spins) = (0, 0);
        while !self.over.load(Ordering::Acquire) {
            let turn = self.turn.load(Ordering::SeqCst);
            if turn.is_multiple_of(2) || turn == done {
                pause(&mut spins);
                continue;
            }
            self.inside.fetch_add(1, Ordering::SeqCst);
            let _inside = Inside(self);
            if self.turn.load(Ordering::SeqCst) == turn {
                // SAFETY: the leader waits for those inside before it ends the borrow.
                if let Some(work) = unsafe { (*self.work.get()).map(|work| &*work) } {
                    work();
                }
            }
            (done, spins) = (turn, 0);
        }
    }
}

/// True if threads stand by for [`fan_out`] on this thread.
pub(crate) fn is_assembled() -> bool {
    !LED.get().is_null()
}

/// Runs `work` on this thread and on others of the current rayon pool, at most `threads` where none stand
/// by; returns when all have returned.
pub fn fan_out(threads: usize, work: &Work<'_>) {
    let led = LED.get();
    if threads < 2 {
        work();
    } else if led.is_null() {
        let half = threads / 2;
        rayon::join(|| fan_out(threads - half, work), || fan_out(half, work));
    } else {
        // SAFETY: `Led` resets the pointer before the team ends.
        unsafe { (*led).run(work) };
    }
}

/// Calls `f` with the number and the elements of every chunk of `size` elements, on several threads if
/// `parallel`.
///
/// # Panics
/// If `size` is 0.
pub fn for_each_chunk<T: Send>(
    data: &mut [T],
    size: usize,
    parallel: bool,
    f: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if !parallel {
        return data.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
    struct Start<T>(*mut T);
    // SAFETY: each chunk is used by the thread that took its number.
    unsafe impl<T: Send> Sync for Start<T> {}
    impl<T> Start<T> {
        fn get(&self) -> *mut T {
            self.0
        }
    }
    let (len, count) = (data.len(), data.len().div_ceil(size));
    let (start, next) = (Start(data.as_mut_ptr()), AtomicUsize::new(0));
    fan_out(rayon::current_num_threads().min(count), &|| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                break;
            }
            let chunk = size.min(len - i * size);
            // SAFETY: the chunk lies within the data, and this thread alone has its number.
            f(i, unsafe { std::slice::from_raw_parts_mut(start.get().add(i * size), chunk) });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Many short turns; work that is divided within work, and by helpers, is not the team's.
    #[test]
    fn every_unit_is_done_once() {
        for threads in [1, 2, 5] {
            let sums = pool(threads).install(|| {
                assemble(|| {
                    let turn = |turn: usize| {
                        let mut data = vec![0.0; 37];
                        for_each_chunk(&mut data, 3, true, &|i, chunk| {
                            let mut inner = vec![0.0; 8];
                            for_each_chunk(&mut inner, 1, i % 5 == 0, &|j, to| to[0] = j as f32);
                            let sum: f32 = inner.iter().sum();
                            chunk.iter_mut().for_each(|v| *v += i as f32 + sum + turn as f32);
                        });
                        data.iter().sum::<f32>()
                    };
                    (0..500).map(turn).collect::<Vec<f32>>()
                })
            });
            // Σ i over 37 elements of chunks of 3, and 28 for the inner sums.
            for (turn, sum) in sums.into_iter().enumerate() {
                assert_eq!(sum, 3.0 * 66.0 + 12.0 + 37.0 * (28.0 + turn as f32), "{threads}");
            }
        }
    }

    #[test]
    fn teams_follow_and_contain_one_another() {
        let inner = || {
            let mut data = vec![1.0; 100];
            assemble(|| {
                for_each_chunk(&mut data, 7, true, &|_, c| c.iter_mut().for_each(|v| *v *= 2.0))
            });
            data.iter().sum::<f32>()
        };
        let found =
            pool(3).install(|| assemble(|| (0..20).map(|_| inner()).sum::<f32>() + inner()));
        assert_eq!(found, 21.0 * 200.0);
        assert!(LED.get().is_null());
    }

    /// A panic in work, of the leader or a helper, comes out; the pool works on.
    #[test]
    fn panics_come_out() {
        let pool = pool(3);
        for bad in [0, 20, 39] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.install(|| {
                    assemble(|| {
                        for_each_chunk(&mut [0.0; 40], 1, true, &|i, _| assert_ne!(i, bad));
                    })
                })
            }));
            assert!(result.is_err(), "{bad}");
        }
        let mut data = [0.0; 9];
        pool.install(|| assemble(|| for_each_chunk(&mut data, 2, true, &|i, c| c.fill(i as f32))));
        assert_eq!(data, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]);
    }
}
