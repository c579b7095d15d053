//! The cache of compiled programs, and compiling in another process.

use crate::bench::{Bench, expected, quick, run, try_surfaces};
use crate::programs;
use ane::{Backoff, Device};
use apple::{Cache, CompileElsewhere, Espresso, InMemory, Libraries, Lost, Options, compile_job};
use apple::{Route, probe::open};
use mil::{Program, Weights};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Bits = Vec<Vec<u32>>;

fn cached(directory: &Path) -> Options {
    let cache = Cache { directory: directory.to_owned(), most_bytes: 64 << 20 };
    Options { cache: Some(cache), ..quick() }
}

fn path(route: Route) -> &'static str {
    if route == Route::InMemory { "in-memory" } else { "e5rt" }
}

/// Runs a program on a new device, as a new process would; its bits, and how often a compiler ran.
fn once(
    bench: &Bench,
    route: Route,
    options: &Options,
    (program, weights): &(Program, Weights),
) -> (Bits, i64) {
    let before = bench.count("compiles");
    let device = open(&bench.libraries(), route, options.clone()).unwrap();
    let got = run(device.as_ref(), program, weights).unwrap();
    (got, bench.count("compiles") - before)
}

/// Demands the emulator's bits, and so many compiles.
fn demand(
    bench: &Bench,
    route: Route,
    options: &Options,
    program: &(Program, Weights),
    compiles: i64,
    what: &str,
) {
    let got = once(bench, route, options, program);
    assert_eq!(got.0, expected(path(route), &program.0, &program.1), "{what}");
    assert_eq!(got.1, compiles, "{what}: compiles");
}

/// Entries of the cache: directories with a record.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
    let mut found: Vec<_> = items.filter(|path| path.join("entry.json").exists()).collect();
    found.sort();
    found
}

/// Files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn what_was_compiled_is_not_compiled_again() {
    let bench = Bench::new();
    let at = tempfile::tempdir().unwrap();
    let options = cached(at.path());
    for route in Route::ALL {
        for program in [programs::add(), programs::product(), programs::many()] {
            demand(&bench, route, &options, &program, 1, "first");
            let opened = bench.count("opened");
            demand(&bench, route, &options, &program, 0, "second");
            assert_eq!(bench.count("opened"), opened + 1);
        }
    }
    demand(&bench, Route::Espresso, &options, &programs::blobs(), 1, "weights");
    demand(&bench, Route::Espresso, &options, &programs::blobs(), 0, "weights again");
    assert_eq!(entries(at.path()).len(), 7);
    // Without a cache all is as ever.
    demand(&bench, Route::Espresso, &quick(), &programs::add(), 1, "off");
}

#[test]
fn a_program_of_the_cache_is_no_compile() {
    let bench = Bench::new();
    let at = tempfile::tempdir().unwrap();
    let (program, weights) = programs::counter();
    let device = InMemory::open(&bench.libraries(), cached(at.path())).unwrap();
    // More than a compiler survives: 119.
    (0..130).for_each(|_| drop(device.compile(&program, &weights).unwrap()));
    assert_eq!((device.budget().compiled(), bench.count("compiles")), (1, 1));
    let device = Espresso::open(&bench.libraries(), cached(at.path())).unwrap();
    (0..3).for_each(|_| drop(device.compile(&program, &weights).unwrap()));
    assert_eq!(device.budget().compiled(), 1);
    // Places are needed as ever.
    let held: Vec<_> = (0..128).map(|_| device.compile(&program, &weights).unwrap()).collect();
    let error = device.compile(&program, &weights).unwrap_err().to_string();
    assert!(error.contains("128 programs are loaded"), "{error}");
    drop(held);
}

/// Breaks an entry in some way.
type Damage = fn(&Path);

#[test]
fn a_damaged_entry_is_compiled_again() {
    let bench = Bench::new();
    let damages: [(&str, Option<Route>, Damage); 9] = [
        ("truncated", Some(Route::Espresso), |at| {
            let file = &files(&at.join("bundles"))[0];
            fs::OpenOptions::new().write(true).open(file).unwrap().set_len(7).unwrap();
        }),
        ("another byte", Some(Route::Espresso), |at| {
            let file = &files(&at.join("bundles"))[0];
            let mut bytes = fs::read(file).unwrap();
            bytes[9] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("a file is missing", Some(Route::Espresso), |at| {
            fs::remove_file(&files(&at.join("bundles"))[0]).unwrap();
        }),
        ("a link instead of a file", Some(Route::Espresso), |at| {
            let file = &files(&at.join("bundles"))[0];
            let other = at.join("elsewhere");
            fs::rename(file, &other).unwrap();
            std::os::unix::fs::symlink(&other, file).unwrap();
        }),
        ("a bundle outside", Some(Route::Espresso), |at| {
            let text = fs::read_to_string(at.join("entry.json")).unwrap();
            fs::write(at.join("entry.json"), text.replace("bundles/", "../bundles/")).unwrap();
        }),
        ("another key", None, |at| {
            let text = fs::read_to_string(at.join("entry.json")).unwrap();
            let key = at.file_name().unwrap().to_str().unwrap();
            fs::write(at.join("entry.json"), text.replace(key, &key.replace('1', "2"))).unwrap();
        }),
        ("another name", Some(Route::InMemory), |at| {
            let text = fs::read_to_string(at.join("entry.json")).unwrap();
            let start = text.find("\"identifier\":\"").unwrap() + 14;
            let (head, tail) = text.split_at(start);
            fs::write(at.join("entry.json"), format!("{head}X{}", &tail[1..])).unwrap();
        }),
        ("no record", None, |at| fs::remove_file(at.join("entry.json")).unwrap()),
        ("a record that is none", None, |at| fs::write(at.join("entry.json"), "{").unwrap()),
    ];
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let options = cached(at.path());
        let program = programs::product();
        demand(&bench, route, &options, &program, 1, "first");
        for (what, only, damage) in &damages {
            if only.is_none_or(|only| only == route) {
                damage(&entries(at.path())[0]);
                demand(&bench, route, &options, &program, 1, what);
                demand(&bench, route, &options, &program, 0, &format!("after {what}"));
                assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1, "{what}: left over");
            }
        }
    }
}

#[test]
fn another_system_compiles_anew() {
    let bench = Bench::new();
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let (options, program) = (cached(at.path()), programs::add());
        demand(&bench, route, &options, &program, 1, "this build");
        bench.fault("new build", -1);
        demand(&bench, route, &options, &program, 1, "another build");
        demand(&bench, route, &options, &program, 0, "another build again");
        bench.fault("new build", 0);
        demand(&bench, route, &options, &program, 0, "this build again");
        bench.fault("no build", -1);
        demand(&bench, route, &options, &program, 1, "an unknown build");
        assert_eq!(entries(at.path()).len(), 2);
        bench.fault("no build", 0);
        bench.reset();
    }
    // Missing functions and methods switch it off, and nothing else.
    let at = tempfile::tempdir().unwrap();
    for fault in ["method compiledModelExists", "signature compiledModelExists"] {
        bench.fault(fault, -1);
        demand(&bench, Route::InMemory, &cached(at.path()), &programs::add(), 1, fault);
        demand(&bench, Route::InMemory, &cached(at.path()), &programs::add(), 1, fault);
        bench.reset();
    }
    // A directory that cannot be: no error.
    let nowhere = cached(Path::new("/proc/no-such-directory"));
    demand(&bench, Route::Espresso, &nowhere, &programs::add(), 1, "nowhere");
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let bench = Bench::new();
    let at = tempfile::tempdir().unwrap();
    let all = [programs::add(), programs::product(), programs::counter(), programs::many()];
    let generous = cached(at.path());
    demand(&bench, Route::Espresso, &generous, &all[0], 1, "to know its size");
    let bytes: u64 = files(at.path()).iter().map(|f| f.metadata().unwrap().len()).sum();
    // Room for two and a half such programs.
    let cache = Cache { directory: at.path().to_owned(), most_bytes: bytes * 5 / 2 };
    let options = Options { cache: Some(cache), ..quick() };
    demand(&bench, Route::Espresso, &options, &all[1], 1, "second");
    // The order of use is kept in whole steps of the file system's clock.
    std::thread::sleep(Duration::from_millis(20));
    demand(&bench, Route::Espresso, &options, &all[0], 0, "first, used again");
    std::thread::sleep(Duration::from_millis(20));
    demand(&bench, Route::Espresso, &options, &all[2], 1, "third");
    demand(&bench, Route::Espresso, &options, &all[0], 0, "first is still there");
    demand(&bench, Route::Espresso, &options, &all[1], 1, "second is not");
    let left: u64 = files(at.path()).iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(left <= bytes * 5 / 2, "{left} of {}", bytes * 5 / 2);
    // What is in use stays, however long ago it was opened.
    let small = Cache { directory: at.path().to_owned(), most_bytes: bytes * 3 / 2 };
    let options = Options { cache: Some(small), ..quick() };
    let device = open(&bench.libraries(), Route::Espresso, options.clone()).unwrap();
    let held = device.compile(&all[1].0, &all[1].1).unwrap();
    for program in &all {
        std::thread::sleep(Duration::from_millis(20));
        once(&bench, Route::Espresso, &options, program);
    }
    demand(&bench, Route::Espresso, &options, &all[1], 0, "in use");
    drop(held);
    // One that is larger than everything is not kept.
    let tiny = Cache { directory: at.path().to_owned(), most_bytes: 10 };
    let options = Options { cache: Some(tiny), ..quick() };
    demand(&bench, Route::Espresso, &options, &programs::blobs(), 1, "too large");
    assert_eq!(fs::read_dir(at.path()).unwrap().count(), entries(at.path()).len());
}

/// By one source the system's name for a program says nothing of its weights' bytes.
#[test]
fn other_weights_are_another_program_whatever_the_system_calls_it() {
    let bench = Bench::new();
    let (program, weights) = programs::blobs();
    let mut other = weights.clone();
    // The last value of the bias: half becomes another.
    let bytes = other.get_mut("@model_path/weights/bias.bin").unwrap();
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[last] ^= 0x04;
    let (one, two) = ((program.clone(), weights), (program, other));
    assert_ne!(expected("e5rt", &one.0, &one.1), expected("e5rt", &two.0, &two.1));
    for route in Route::ALL {
        for fault in ["", "names without weights"] {
            let at = tempfile::tempdir().unwrap();
            bench.reset();
            bench.fault(fault, -1);
            let options = cached(at.path());
            for program in [&one, &two, &one, &two] {
                let (got, _) = once(&bench, route, &options, program);
                assert!(got == expected(path(route), &program.0, &program.1), "{route}, {fault}");
            }
        }
    }
}

#[test]
fn what_the_system_does_not_take_is_compiled() {
    let bench = Bench::new();
    let program = programs::product();
    for route in Route::ALL {
        let refusal = if route == Route::InMemory { "open fails" } else { "bundles refused" };
        let at = tempfile::tempdir().unwrap();
        let options = cached(at.path());
        demand(&bench, route, &options, &program, 1, "first");
        bench.fault(refusal, -1);
        demand(&bench, route, &options, &program, 1, "refused");
        demand(&bench, route, &options, &program, 1, "refused again");
        // It was asked twice, and is not asked a third time.
        bench.fault(refusal, 0);
        demand(&bench, route, &options, &program, 1, "not asked");
        // Until it is another system.
        bench.fault("new build", -1);
        demand(&bench, route, &options, &program, 1, "another build");
        demand(&bench, route, &options, &program, 0, "another build again");
        bench.assert_clean("refused");
        bench.reset();
        // Once is forgiven by a success.
        let at = tempfile::tempdir().unwrap();
        let options = cached(at.path());
        for _ in 0..3 {
            demand(&bench, route, &options, &program, 1, "compiled");
            demand(&bench, route, &options, &program, 0, "taken");
            bench.fault("open fails", 1);
            demand(&bench, route, &options, &program, 1, "refused once");
            demand(&bench, route, &options, &program, 0, "taken after that");
            entries(at.path()).iter().for_each(|entry| fs::remove_dir_all(entry).unwrap());
        }
        bench.reset();
    }
    // The system's own cache may be emptied at any time.
    let at = tempfile::tempdir().unwrap();
    let options = cached(at.path());
    for _ in 0..4 {
        bench.fault("system forgets", -1);
        demand(&bench, Route::InMemory, &options, &program, 1, "forgotten");
        bench.fault("system forgets", 0);
        demand(&bench, Route::InMemory, &options, &program, 0, "remembered");
    }
}

/// Bundles may not last a day: that an old one is refused says nothing of those to come.
#[test]
fn a_system_that_refuses_what_is_old_is_asked_again() {
    let bench = Bench::new();
    let at = tempfile::tempdir().unwrap();
    let (options, all) = (cached(at.path()), [programs::add(), programs::product()]);
    for program in &all {
        demand(&bench, Route::Espresso, &options, program, 1, "first");
    }
    for day in 0..3 {
        for entry in entries(at.path()) {
            let text = fs::read_to_string(entry.join("entry.json")).unwrap();
            let (head, tail) = text.split_once("\"made\":").unwrap();
            let (_, tail) = tail.split_once(',').unwrap();
            fs::write(entry.join("entry.json"), format!("{head}\"made\":1,{tail}")).unwrap();
        }
        bench.fault("bundles refused", -1);
        for program in &all {
            demand(&bench, Route::Espresso, &options, program, 1, &format!("day {day}"));
        }
        bench.fault("bundles refused", 0);
        for program in &all {
            demand(&bench, Route::Espresso, &options, program, 0, &format!("day {day}, again"));
        }
    }
}

#[test]
fn an_opening_that_hangs_is_left_behind() {
    let bench = Bench::new();
    let program = programs::add();
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let options = Options { open_limit: Duration::from_millis(200), ..cached(at.path()) };
        demand(&bench, route, &options, &program, 1, "first");
        bench.fault("open hang", -1);
        let start = Instant::now();
        match route {
            Route::Espresso => demand(&bench, route, &options, &program, 1, "hangs"),
            // A compile would wait behind it.
            Route::InMemory => {
                let device = open(&bench.libraries(), route, options.clone()).unwrap();
                let error = device.compile(&program.0, &program.1).unwrap_err().to_string();
                assert!(error.contains("did not end"), "{error}");
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        bench.fault("open hang", 0);
        bench.assert_clean("open hang");
        demand(&bench, route, &options, &program, 0, "afterwards");
        bench.reset();
    }
}

#[test]
fn threads_share_a_cache() {
    let bench = Bench::new();
    let all = [programs::add(), programs::product(), programs::many(), programs::counter()];
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let options = &cached(at.path());
        let right: Vec<Bits> = all.iter().map(|(p, w)| expected(path(route), p, w)).collect();
        let (all, right, libraries) = (&all, &right, &bench.libraries());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    let device = open(libraries, route, options.clone()).unwrap();
                    for i in (0..all.len() * 3).map(|i| (i + thread) % all.len()) {
                        let got = run(device.as_ref(), &all[i].0, &all[i].1).unwrap();
                        assert!(got == right[i], "{route}, thread {thread}, program {i}");
                    }
                });
            }
        });
        assert_eq!(entries(at.path()).len(), all.len(), "{route}");
        assert_eq!(fs::read_dir(at.path()).unwrap().count(), all.len(), "{route}: left over");
        bench.reset();
    }
}

/// Does here what another process would, unless it is lost: `losses` times, and so.
#[derive(Debug)]
struct Process {
    libraries: Libraries,
    losses: AtomicUsize,
    lost: Lost,
    tries: AtomicUsize,
}

impl CompileElsewhere for Process {
    fn run(&self, route: Route, directory: &Path, limit: Duration) -> Result<(), Lost> {
        assert_eq!(limit, quick().compile_limit);
        self.tries.fetch_add(1, Ordering::SeqCst);
        let mut losing = |n: usize| n.checked_sub(1);
        if self.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, &mut losing).is_ok() {
            return Err(self.lost.clone());
        }
        compile_job(&self.libraries, route, quick(), directory)
            .map_err(|error| Lost::Crashed(error.to_string()))
    }
}

fn process(bench: &Bench, losses: usize, lost: Lost) -> Arc<Process> {
    let (losses, tries) = (AtomicUsize::new(losses), AtomicUsize::new(0));
    Arc::new(Process { libraries: bench.libraries(), losses, lost, tries })
}

fn compiling_in(process: &Arc<Process>, directory: &Path) -> Options {
    let pause = Duration::from_millis(1);
    Options {
        elsewhere: Some(process.clone()),
        elsewhere_pauses: Backoff { tries: 3, first: pause, most: pause },
        ..cached(directory)
    }
}

#[test]
fn another_process_compiles() {
    let bench = Bench::new();
    for route in Route::ALL {
        for (losses, lost) in
            [(0, Lost::Hung), (2, Lost::Hung), (2, Lost::Crashed("signal: 6".to_owned()))]
        {
            let at = tempfile::tempdir().unwrap();
            let process = process(&bench, losses, lost);
            let options = compiling_in(&process, at.path());
            let program = programs::many();
            demand(&bench, route, &options, &program, 1, "by the process alone");
            assert_eq!(process.tries.load(Ordering::SeqCst), losses + 1);
            demand(&bench, route, &options, &program, 0, "of the cache");
            assert_eq!(process.tries.load(Ordering::SeqCst), losses + 1, "nobody was asked");
            assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1, "left over");
            bench.assert_clean("another process");
            bench.reset();
        }
        // None can be had: compiled here.
        let at = tempfile::tempdir().unwrap();
        let none = process(&bench, 99, Lost::NotStarted("no more processes".to_owned()));
        let options = compiling_in(&none, at.path());
        demand(&bench, route, &options, &programs::add(), 1, "no process");
        demand(&bench, route, &options, &programs::add(), 0, "kept all the same");
        assert_eq!(none.tries.load(Ordering::SeqCst), 1);
        bench.reset();
    }
}

#[test]
fn a_program_that_no_process_survives_is_named_and_kept() {
    let bench = Bench::new();
    let (program, weights) = programs::blobs();
    for route in Route::ALL {
        for (lost, how) in [
            (Lost::Hung, "it did not end within 30 s"),
            (Lost::Crashed("signal: 6 (SIGABRT)".to_owned()), "it crashed (signal: 6 (SIGABRT))"),
        ] {
            let at = tempfile::tempdir().unwrap();
            let options = compiling_in(&process(&bench, 99, lost), at.path());
            let device = open(&bench.libraries(), route, options).unwrap();
            let error = device.compile(&program, &weights).unwrap_err().to_string();
            for part in ["`main` could not be compiled", "tried 3 times", how] {
                assert!(error.contains(part), "{error}");
            }
            let kept = error.split("is kept in ").nth(1).unwrap().split(" (").next().unwrap();
            let text = fs::read_to_string(Path::new(kept).join("model.mil")).unwrap();
            assert_eq!(text, program.to_string());
            assert!(Path::new(kept).join("weights/bias.bin").exists());
            assert_eq!(fs::read_dir(at.path()).unwrap().count(), 1, "once, however often");
            assert_eq!(bench.count("compiles"), 0, "nothing was risked here");
        }
    }
}

#[test]
fn the_other_process_says_what_the_compiler_says() {
    let bench = Bench::new();
    let program = programs::product();
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let process = process(&bench, 0, Lost::Hung);
        let options = compiling_in(&process, at.path());
        let compile = || {
            let device = open(&bench.libraries(), route, options.clone()).unwrap();
            run(device.as_ref(), &program.0, &program.1)
        };
        bench.fault("refuse program", -1);
        let error = compile().unwrap_err().to_string();
        assert!(error.contains("InvalidMILProgram"), "{error}");
        assert_eq!(process.tries.load(Ordering::SeqCst), 1, "no pause mends it");
        bench.fault("refuse program", 0);
        // Now and then it gives up without a reason: 3 pauses are made in all.
        bench.fault("flaky compile", 3);
        assert_eq!(compile().unwrap(), expected(path(route), &program.0, &program.1));
        assert_eq!(process.tries.load(Ordering::SeqCst), 1 + 4);
        bench.reset();
    }
}

#[test]
fn where_another_processs_program_is_refused_it_is_compiled_here() {
    let bench = Bench::new();
    let (first, second) = (programs::product(), programs::many());
    let at = tempfile::tempdir().unwrap();
    let asked = process(&bench, 0, Lost::Hung);
    let options = compiling_in(&asked, at.path());
    bench.fault("bundles refused", -1);
    demand(&bench, Route::Espresso, &options, &first, 2, "there, then here");
    // What is known for certain is not tried again, by this process or the next.
    demand(&bench, Route::Espresso, &options, &second, 1, "here");
    demand(&bench, Route::Espresso, &options, &first, 1, "here again");
    assert_eq!(asked.tries.load(Ordering::SeqCst), 1);
    assert_eq!(entries(at.path()).len(), 0);
    bench.reset();
    // Nor where the compiler leaves nothing that could be opened: that is seen twice.
    let at = tempfile::tempdir().unwrap();
    let asked = process(&bench, 0, Lost::Hung);
    let options = compiling_in(&asked, at.path());
    bench.fault("no bundle", -1);
    for compiles in [2, 2, 1] {
        bench.reset();
        bench.fault("no bundle", -1);
        demand(&bench, Route::Espresso, &options, &first, compiles, "nothing to open");
    }
    assert_eq!(entries(at.path()).len(), 0);
    bench.reset();
    // In memory the system may not know what it has just compiled.
    let at = tempfile::tempdir().unwrap();
    let asked = process(&bench, 0, Lost::Hung);
    let options = compiling_in(&asked, at.path());
    // Programs with weights are compiled there to see whether they can be, then here.
    demand(&bench, Route::InMemory, &options, &programs::blobs(), 2, "weights");
    demand(&bench, Route::InMemory, &options, &second, 1, "there");
    bench.fault("system forgets", -1);
    demand(&bench, Route::InMemory, &options, &first, 2, "there, then here");
    demand(&bench, Route::InMemory, &options, &first, 1, "here");
    bench.assert_clean("forgotten");
}

/// A process that died of opening an entry left its mark: the next one does not open it.
#[test]
fn an_entry_that_a_process_died_of_is_not_opened() {
    let bench = Bench::new();
    let program = programs::product();
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let options = cached(at.path());
        demand(&bench, route, &options, &program, 1, "first");
        let die = || fs::write(entries(at.path())[0].join("opening-1-0-0"), []).unwrap();
        die();
        demand(&bench, route, &options, &program, 1, "a process died of it");
        demand(&bench, route, &options, &program, 0, "another one is tried");
        for _ in 0..2 {
            die();
            demand(&bench, route, &options, &program, 1, "died again");
        }
        let opened = bench.count("opened");
        demand(&bench, route, &options, &program, 1, "twice in a row: not asked again");
        assert_eq!(bench.count("opened"), opened);
        bench.reset();
    }
}

/// An entry that opens and does not run is an error of that process; the next one compiles it
/// itself.
#[test]
fn a_program_that_opens_and_does_not_run_is_compiled_by_the_next_process() {
    let bench = Bench::new();
    let (program, weights) = programs::product();
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let asked = process(&bench, 0, Lost::Hung);
        let options = match route {
            Route::InMemory => cached(at.path()),
            Route::Espresso => compiling_in(&asked, at.path()),
        };
        let (program, rest) = (&program, &programs::many());
        demand(&bench, route, &options, &(program.clone(), weights.clone()), 1, "first");
        bench.fault("opened programs fail", -1);
        let device = open(&bench.libraries(), route, options.clone()).unwrap();
        let error = run(device.as_ref(), program, &weights).unwrap_err().to_string();
        assert!(error.contains("came from the cache") && error.contains("status=0x2"), "{error}");
        drop(device);
        demand(&bench, route, &options, &(program.clone(), weights.clone()), 1, "the next");
        // Nor is another program asked for that another process compiled.
        demand(&bench, route, &options, rest, 1, "another");
        bench.assert_clean("opened programs");
        bench.reset();
    }
}

#[test]
fn a_program_that_ran_is_not_to_blame_for_a_later_failure() {
    let bench = Bench::new();
    let program = programs::product();
    for route in Route::ALL {
        let at = tempfile::tempdir().unwrap();
        let options = cached(at.path());
        demand(&bench, route, &options, &program, 1, "first");
        {
            let device = open(&bench.libraries(), route, options.clone()).unwrap();
            let mut executable = device.compile(&program.0, &program.1).unwrap();
            let surfaces = try_surfaces(device.as_ref(), executable.as_ref()).unwrap();
            let [inputs, outputs] = surfaces.each_ref().map(|all| all.iter().collect::<Vec<_>>());
            executable.run(&inputs, &outputs).unwrap();
            bench.fault("opened programs fail", 1);
            let error = executable.run(&inputs, &outputs).unwrap_err().to_string();
            assert!(error.contains("status=0x2") && !error.contains("the cache"), "{error}");
        }
        demand(&bench, route, &options, &program, 0, "still there");
        bench.assert_clean("a later failure");
        bench.reset();
    }
}
